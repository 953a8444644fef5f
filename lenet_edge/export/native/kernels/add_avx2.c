/* `scale_twice` of eight integers, for shifts to the right. */
INLINE lanes add_scaled(lanes values, int32_t multiplier, int shift) {
  const lanes half = _mm256_set1_epi32((int32_t)(((int64_t)1 << -shift) >> 1));
  const lanes high = high_products(values, _mm256_set1_epi32(multiplier),
                                   _mm256_set1_epi64x(1 << 30), 1);
  const lanes sign = shift < 0 ? _mm256_srai_epi32(high, 31) : _mm256_setzero_si256();
  return _mm256_sra_epi32(_mm256_add_epi32(_mm256_add_epi32(high, half), sign),
                          _mm_cvtsi32_si128(-shift));
}

/* Eight integers minus their zero point, with 20 more bits. */
INLINE lanes add_load(const int8_t *from, int32_t zero) {
  return _mm256_slli_epi32(
      _mm256_sub_epi32(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)from)),
                       _mm256_set1_epi32(zero)),
      20);
}

/* The sum of two tensors, or their difference. Both go to a common scale, with 20 more bits. */
KERNEL void add(const struct elements *e, int sign, const int8_t *a, const int8_t *b,
                int8_t *out) {
  for (int i = 0; i < e->sizes[0]; i++)
    for (int j = 0; j < e->sizes[1]; j++)
      for (int k = 0; k < e->sizes[2]; k++) {
        const int8_t *x = a + i * e->a_steps[0] + j * e->a_steps[1] + k * e->a_steps[2];
        const int8_t *y = b + i * e->b_steps[0] + j * e->b_steps[1] + k * e->b_steps[2];
        int8_t *to = out + i * e->out_steps[0] + j * e->out_steps[1] + k * e->out_steps[2];
        int n = 0;
        for (; n + 8 <= e->count && e->a_step == 1 && e->b_step == 1 && e->shift <= 0; n += 8) {
          const lanes left = add_scaled(add_load(x + n, e->a_zero), e->a_multiplier, e->a_shift);
          const lanes right = add_scaled(add_load(y + n, e->b_zero), e->b_multiplier, e->b_shift);
          const lanes sum = sign < 0 ? _mm256_sub_epi32(left, right)
                                     : _mm256_add_epi32(left, right);
          const lanes scaled = add_scaled(sum, e->multiplier, e->shift);
          store_bytes(_mm256_add_epi32(scaled, _mm256_set1_epi32(e->zero)), e->low, e->high,
                      to + n, 8);
        }
        for (; n < e->count; n++) {
          const int32_t left = (x[n * e->a_step] - e->a_zero) * (1 << 20);
          const int32_t right = (y[n * e->b_step] - e->b_zero) * (1 << 20);
          const int32_t sum = scale_twice(left, e->a_multiplier, e->a_shift) +
                              sign * scale_twice(right, e->b_multiplier, e->b_shift);
          to[n] = clamp(scale_twice(sum, e->multiplier, e->shift) + e->zero, e->low, e->high);
        }
      }
}
