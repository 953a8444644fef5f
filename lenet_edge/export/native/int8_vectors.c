#if !HAS_NEON
typedef int8_t bytes __attribute__((vector_size(LANES), aligned(1), may_alias));

INLINE vec load_int8(const int8_t *from) {
#if LANES == 16 /* in cases by name, because compilers take the bytes one by one */
  return (vec)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)from)));
#elif LANES == 8
  return (vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)from)));
#elif defined(__wasm_simd128__) /* each byte to the top of a lane, and down with its sign */
  typedef int8_t all __attribute__((vector_size(16)));
  int32_t four;
  memcpy(&four, from, sizeof four);
  const all in = (all)(mask){four};
  return __builtin_convertvector(
      (mask)__builtin_shufflevector(in, in, 4, 4, 4, 0, 4, 4, 4, 1, 4, 4, 4, 2, 4, 4, 4, 3) >> 24, vec);
#else
  return __builtin_convertvector(__builtin_convertvector(*(const bytes *)from, mask), vec);
#endif
}
#endif
