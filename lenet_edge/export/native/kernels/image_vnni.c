/* Whether a convolution has 3 x 3 weights, one channel, and a pool of 2 x 2. */
INLINE int is_image(const struct convolution *c) {
  return c->run_rows == 3 && c->run_cols == 1 && c->run_bytes <= 3 && c->pool_rows == 2 &&
         c->pool_cols == 2 && c->col_step == 1 && c->pool_col_step == 2 &&
         c->run_row_step == c->row_step;
}

/* Sixteen bytes of each of eight filters become eight bytes of each of sixteen pixels. */
INLINE void store_pixels(const __m128i filter[8], int8_t *out, int step, int pixels, int filters) {
  __m128i r[8], s[8];
  UNROLL(4)
  for (int n = 0; n < 4; n++) {
    r[n] = _mm_unpacklo_epi8(filter[2 * n], filter[2 * n + 1]);
    r[4 + n] = _mm_unpackhi_epi8(filter[2 * n], filter[2 * n + 1]);
  }
  UNROLL(4)
  for (int n = 0; n < 4; n++) {
    s[2 * n] = _mm_unpacklo_epi16(r[2 * n], r[2 * n + 1]);
    s[2 * n + 1] = _mm_unpackhi_epi16(r[2 * n], r[2 * n + 1]);
  }
  UNROLL(2)
  for (int h = 0; h < 2; h++)
    UNROLL(2)
    for (int n = 0; n < 2; n++) {
      r[4 * h + 2 * n] = _mm_unpacklo_epi32(s[4 * h + n], s[4 * h + 2 + n]);
      r[4 * h + 2 * n + 1] = _mm_unpackhi_epi32(s[4 * h + n], s[4 * h + 2 + n]);
    }
  UNROLL(16)
  for (int n = 0; n < 16; n++)
    if (n < pixels) {
      const int64_t bytes = n % 2 ? _mm_extract_epi64(r[n / 2], 1) : _mm_cvtsi128_si64(r[n / 2]);
      memcpy(out + n * step, &bytes, filters < 8 ? (size_t)filters : 8);
    }
}

/* 3 x 3 pixels of one channel, and a pool of 2 x 2. Lanes are outputs side by side: each has four
 * pixels of a row, which both columns of its window share.
 */
INLINE void convolve_image(const struct convolution *c, const int8_t *in, int8_t *out) {
  const __m512i order = _mm512_set_epi16(16, 15, 15, 14, 14, 13, 13, 12, 12, 11, 11, 10, 10, 9, 9, 8,
                                         8, 7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0);
  const lanes low = _mm512_set1_epi8((char)c->in_low);
  for (int k = 0; k < c->filters; k += 8) {
    const int filters = c->filters - k < 8 ? c->filters - k : 8;
    for (int y = 0; y < c->rows; y++)
      for (int x = 0; x < c->cols; x += 16) {
        const int8_t *from = in + y * c->pool_row_step + 2 * x;
        __m128i bytes[8] = {{0}};
#define ROW(r)                                                                                     \
  const lanes a##r = _mm512_permutexvar_epi16(                                                     \
      order, _mm512_sub_epi8(_mm512_loadu_si512(from + r * c->row_step), low));
        FOUR(ROW)
        UNROLL(8)
        for (int f = 0; f < 8; f++) {
          if (f >= filters)
            continue;
          const int n = k + f;
          lanes s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
#define TAP(r, a, below)                                                                           \
  {                                                                                                \
    const lanes p = splat((const uint8_t *)c->weights + 4 * (r * c->padded + n), 0);               \
    const lanes q = _mm512_slli_epi32(p, 8);                                                       \
    s0 = dot(s0, a, p, 0);                                                                         \
    s1 = dot(s1, a, q, 0);                                                                         \
    s2 = dot(s2, below, p, 0);                                                                     \
    s3 = dot(s3, below, q, 0);                                                                     \
  }
          TAP(0, a0, a1)
          TAP(1, a1, a2)
          TAP(2, a2, a3)
          lanes best = larger(larger(s0, s1), larger(s2, s3));
          best = _mm512_add_epi32(best, _mm512_set1_epi32(c->unsigned_bias[n]));
          best = twice_by(best, _mm512_set1_epi32(c->multipliers[n]),
                          _mm512_set1_epi32(c->shifts[n]), c->zero, c->low < c->zero);
          best = _mm512_min_epi32(_mm512_max_epi32(best, _mm512_set1_epi32(c->low)),
                                  _mm512_set1_epi32(c->high));
          bytes[f] = _mm512_cvtepi32_epi8(best);
        }
        store_pixels(bytes, out + y * c->out_line + x * c->out_step + k, c->out_step, c->cols - x, filters);
#undef ROW
#undef TAP
      }
  }
}
