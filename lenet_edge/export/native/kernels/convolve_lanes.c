/* Four positions of a convolution, for one or two vectors of filters. With `best` they are a
 * window of a pool; else the first `count` of them are neighbours.
 * The inputs of each position lie at x, in groups of four: `size` of them.
 */
INLINE void convolve_block(const struct convolution *c, const uint8_t *x, int size, int k,
                           int vectors, int words, int best, int count, int8_t *out) {
  const int8_t *w = c->weights + 4 * k;
  const int step = words ? 2 * OUTPUTS : 4 * OUTPUTS, bytes = words ? 8 : 4;
#define START(t) lanes a##t = {0}, b##t = {0};
  FOUR(START)
  UNROLL(1)
  for (int g = 0; g < size; g++, w += 4 * c->padded) {
    const lanes w0 = load_weights(w, words), w1 = vectors > 1 ? load_weights(w + step, words) : w0;
#define MULTIPLY(t)                                                                                \
  {                                                                                                \
    const lanes group = splat(x + (t * size + g) * bytes, words);                                  \
    a##t = dot(a##t, group, w0, words);                                                            \
    if (vectors > 1) b##t = dot(b##t, group, w1, words);                                           \
  }
    FOUR(MULTIPLY)
  }
#define TOTAL(t) if (words) a##t = total(a##t, b##t);
  FOUR(TOTAL)
  if (best) {
    a0 = larger(larger(a0, a1), larger(a2, a3));
    b0 = larger(larger(b0, b1), larger(b2, b3));
  }
#define SCALE(v, t, k)                                                                             \
  if (!t || !best)                                                                                 \
    v##t = TWICE(v##t, c, k, words);
#define SCALE_A(t) SCALE(a, t, k)
#define SCALE_B(t) SCALE(b, t, (k + OUTPUTS))
  FOUR(SCALE_A)
  if (vectors > 1 && !words) {
    FOUR(SCALE_B)
  }
#define STORE(t)                                                                                   \
  if (!t || (!best && t < count)) {                                                                \
    store_bytes(a##t, c->low, c->high, out + t * c->out_step, c->filters - k);                     \
    if (vectors > 1 && !words)                                                                     \
      store_bytes(b##t, c->low, c->high, out + t * c->out_step + OUTPUTS,                          \
                  c->filters - k - OUTPUTS);                                                       \
  }
  FOUR(STORE)
#undef START
#undef MULTIPLY
#undef TOTAL
#undef SCALE
#undef SCALE_A
#undef SCALE_B
#undef STORE
}

/* All filters of four positions. */
INLINE void convolve_four(const struct convolution *c, const uint8_t *x, int size, int words,
                          int best, int count, int8_t *out) {
  int k = 0;
  if (words) {
    for (; k < c->filters; k += OUTPUTS)
      convolve_block(c, x, size, k, 2, 1, best, count, out + k);
    return;
  }
  for (; k + OUTPUTS < c->filters; k += 2 * OUTPUTS)
    convolve_block(c, x, size, k, 2, 0, best, count, out + k);
  if (k < c->filters)
    convolve_block(c, x, size, k, 1, 0, best, count, out + k);
}

/* Any convolution. The inputs of four positions are gathered; then each vector of weights is
 * loaded once for all four.
 */
KERNEL void convolve(const struct convolution *c, const int8_t *in, int8_t *out) {
  if (is_image(c)) {
    convolve_image(c, in, out);
    return;
  }
  ALIGNED uint8_t x[8 * MOST_INPUTS + 64];
  const int window = c->pool_rows * c->pool_cols, words = needs_words(c->in_low);
  const int run = 4 * c->run_groups, runs = c->run_rows * c->run_cols, bytes = words ? 2 : 1;
  for (int y = 0; y < c->rows; y++)
    for (int col = 0; col < c->cols; col += window > 1 ? 1 : 4) {
      const int8_t *from = in + y * c->pool_row_step + col * c->pool_col_step;
      int8_t *to = out + y * c->out_line + col * c->out_step;
      const int count = c->cols - col;
      for (int t = 0; t < 4; t++) {
        const int n = t < window ? t : window - 1;
        const int8_t *at =
            window > 1 ? from + n / c->pool_cols * c->row_step + n % c->pool_cols * c->col_step
                       : from + (t < count ? t : count - 1) * c->pool_col_step;
        for (int r = 0; r < c->run_rows; r++)
          for (int q = 0; q < c->run_cols; q++)
            gather(at + r * c->run_row_step + q * c->run_col_step, run, c->in_low, words,
                   x + (t * runs + r * c->run_cols + q) * run * bytes);
      }
      const int size = runs * c->run_groups;
      if (words)
        convolve_four(c, x, size, 1, window > 1, count, to);
      else
        convolve_four(c, x, size, 0, window > 1, count, to);
    }
}
