/* Whether a convolution has 3 x 3 weights, one channel, and a pool of 2 x 2. */
INLINE int is_image(const struct convolution *c) {
  return c->run_rows == 3 && c->run_cols == 1 && c->run_bytes <= 3 && c->pool_rows == 2 &&
         c->pool_cols == 2 && c->col_step == 1 && c->pool_col_step == 2 &&
         c->run_row_step == c->row_step;
}

/* 3 x 3 pixels of one channel, and a pool of 2 x 2. Lanes are outputs side by side: pair n of a row
 * is pixels 2 n and 2 n + 1, so that the two columns of a window share both vectors of a row.
 */
INLINE void convolve_image(const struct convolution *c, const int8_t *in, int8_t *out) {
  for (int k = 0; k < c->filters; k += OUTPUTS) {
    const int filters = c->filters - k < OUTPUTS ? c->filters - k : OUTPUTS;
    ALIGNED int16_t pairs[3][2][OUTPUTS][4]; /* w0 w1 w2 0, and 0 w0 w1 w2 for the second column */
    for (int r = 0; r < 3; r++)
      for (int f = 0; f < OUTPUTS; f += OUTPUTS / 2) {
        const lanes w = load_weights(c->weights + 4 * (r * c->padded + k + f), 1);
        store_lanes(pairs[r][0][f], w);
        store_lanes(pairs[r][1][f], one_later(w));
      }
    for (int y = 0; y < c->rows; y++)
      for (int x = 0; x < c->cols; x += OUTPUTS) {
        const int8_t *from = in + y * c->pool_row_step + 2 * x;
        ALIGNED int32_t sums[OUTPUTS][OUTPUTS];
#define ROW(r)                                                                                     \
  const lanes a##r = load_weights(from + r * c->row_step, 1);                                      \
  const lanes b##r = load_weights(from + r * c->row_step + 2, 1);
        FOUR(ROW)
        for (int f = 0; f < filters; f++) {
          lanes s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
#define TAP(r, a, b, below_a, below_b)                                                             \
  {                                                                                                \
    const lanes p = splat_pair(pairs[r][0][f]), q = splat_pair(pairs[r][0][f] + 2);                \
    const lanes u = splat_pair(pairs[r][1][f]), v = splat_pair(pairs[r][1][f] + 2);                \
    s0 = dot_words(dot_words(s0, a, p), b, q);                                                     \
    s1 = dot_words(dot_words(s1, a, u), b, v);                                                     \
    s2 = dot_words(dot_words(s2, below_a, p), below_b, q);                                         \
    s3 = dot_words(dot_words(s3, below_a, u), below_b, v);                                         \
  }
          TAP(0, a0, b0, a1, b1)
          TAP(1, a1, b1, a2, b2)
          TAP(2, a2, b2, a3, b3)
          store_lanes(sums[f], larger(larger(s0, s1), larger(s2, s3)));
        }
        lanes pixels[OUTPUTS];
        turn(sums, pixels);
        UNROLL(OUTPUTS)
        for (int n = 0; n < OUTPUTS; n++)
          pixels[n] = TWICE(pixels[n], c, k, 1);
        int8_t *to = out + y * c->out_line + x * c->out_step + k;
        UNROLL(OUTPUTS)
        for (int n = 0; n < OUTPUTS; n++)
          if (x + n < c->cols)
            store_bytes(pixels[n], c->low, c->high, to + n * c->out_step, filters);
#undef ROW
#undef TAP
      }
  }
}
