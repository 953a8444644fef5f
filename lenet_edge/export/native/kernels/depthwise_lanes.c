/* OUTPUTS channels of a pixel; with several outputs of each channel, copies of it. */
INLINE const int8_t *channels_at(const struct depthwise *d, const int8_t *pixel, int k,
                                 int8_t *copies) {
  if (d->multiplier == 1)
    return pixel + k;
  for (int n = 0; n < OUTPUTS; n++)
    copies[n] = k + n < d->channels ? pixel[(k + n) / d->multiplier] : 0;
  return copies;
}

/* A convolution of each channel by itself. Lanes are channels. The pixels of two weights make pairs
 * of words: one multiplication. Four positions share the weights.
 */
KERNEL void depthwise(const struct depthwise *d, const int8_t *in, int8_t *out) {
  const int8_t none[OUTPUTS] = {0};
  const int taps = d->kernel_rows * d->kernel_cols;
  for (int y = 0; y < d->rows; y++)
    for (int k = 0; k < d->channels; k += OUTPUTS)
      for (int x = 0; x < d->cols; x += 4) {
        const int8_t *from = in + y * d->row_step + x * d->col_step;
        const int count = d->cols - x;
        int8_t a[OUTPUTS], b[OUTPUTS];
#define START(t)                                                                                   \
  lanes sum##t = {0};                                                                              \
  const int8_t *at##t = from + (t < count ? t : count - 1) * d->col_step;
        FOUR(START)
        for (int n = 0; n < taps; n += 2) {
          const int m = n + 1 < taps ? n + 1 : n;
          const int first = n / d->kernel_cols * d->kernel_row_step +
                            n % d->kernel_cols * d->kernel_col_step;
          const int second = m / d->kernel_cols * d->kernel_row_step +
                             m % d->kernel_cols * d->kernel_col_step;
          const int8_t *weights = d->weights + k;
          const lanes w =
              pair(weights + n * d->padded, m > n ? weights + m * d->padded : none);
#define MULTIPLY(t)                                                                                \
  sum##t = dot_words(sum##t,                                                                       \
                     pair(channels_at(d, at##t + first, k, a),                                     \
                          channels_at(d, at##t + second, k, b)),                                   \
                     w);
          FOUR(MULTIPLY)
        }
        int8_t *to = out + y * d->out_line + x * d->out_step + k;
#define SCALE(t) sum##t = TWICE(sum##t, d, k, 1);
        FOUR(SCALE)
#define STORE(t)                                                                                   \
  if (t < count)                                                                                   \
    store_bytes(sum##t, d->low, d->high, to + t * d->out_step, d->channels - k);
        FOUR(STORE)
#undef START
#undef MULTIPLY
#undef SCALE
#undef STORE
      }
}
