typedef float vec __attribute__((vector_size(4 * LANES)));
typedef float loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t mask __attribute__((vector_size(4 * LANES)));
typedef int8_t bytes __attribute__((vector_size(LANES), aligned(1), may_alias));

INLINE vec load(const float *from) { return *(const loose *)from; }
INLINE vec load_int8(const int8_t *from) {
#if LANES == 16 /* in two cases by name, because GCC takes the bytes one by one */
  return (vec)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)from)));
#elif LANES == 8
  return (vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)from)));
#else
  return __builtin_convertvector(__builtin_convertvector(*(const bytes *)from, mask), vec);
#endif
}
INLINE void store(float *to, vec value) { *(loose *)to = value; }
INLINE vec larger(vec a, vec b) {
  const mask of_a = a > b;
  return (vec)(((mask)a & of_a) | ((mask)b & ~of_a));
}
/* to[i] = from[4 i], eight of them, of 32 that may be read. */
INLINE void take_every_fourth(const float *from, float *to) {
#if CAN_SHUFFLE
  typedef float eight __attribute__((vector_size(32), aligned(4), may_alias));
  typedef float sixteen __attribute__((vector_size(64), aligned(4), may_alias));
  const sixteen *both = (const sixteen *)from;
  *(eight *)to = __builtin_shufflevector(both[0], both[1], 0, 4, 8, 12, 16, 20, 24, 28);
#else
  for (int i = 0; i < 8; i++)
    to[i] = from[4 * i];
#endif
}
