typedef int8_t bytes __attribute__((vector_size(LANES), aligned(1), may_alias));

INLINE vec load_int8(const int8_t *from) {
#if LANES == 16 /* in two cases by name, because GCC takes the bytes one by one */
  return (vec)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)from)));
#elif LANES == 8
  return (vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)from)));
#else
  return __builtin_convertvector(__builtin_convertvector(*(const bytes *)from, mask), vec);
#endif
}
