/* OUTPUTS channels of a pixel; with several outputs of each channel, copies of it. */
INLINE const int8_t *channels_at(const struct depthwise *d, const int8_t *pixel, int k,
                                 int multiplied, int8_t *copies) {
  if (!multiplied)
    return pixel + k;
  for (int n = 0; n < OUTPUTS; n++)
    copies[n] = k + n < d->channels ? pixel[(k + n) / d->multiplier] : 0;
  return copies;
}

INLINE void depthwise_all(const struct depthwise *d, const int8_t *in, int8_t *out,
                          int multiplied) {
  const int8_t none[OUTPUTS] = {0};
  const int taps = d->kernel_rows * d->kernel_cols;
  for (int y = 0; y < d->rows; y++)
    for (int k = 0; k < d->channels; k += OUTPUTS)
      for (int x = 0; x < d->cols; x += 4) {
        const int8_t *from = in + y * d->row_step + x * d->col_step;
        const int8_t *weights = d->weights + k;
        const int count = d->cols - x;
        int8_t a[OUTPUTS], b[OUTPUTS];
        int col = 0, offset = 0; /* of the next tap */
#define START(t)                                                                                   \
  lanes sum##t = {0};                                                                              \
  const int8_t *at##t = from + (t < count ? t : count - 1) * d->col_step;
        FOUR(START)
        UNROLL(1)
        for (int n = 0; n < taps; n += 2) {
          int places[2] = {0, 0};
          UNROLL(2)
          for (int half = 0; half < 2; half++) {
            places[half] = n + half < taps ? offset : places[0];
            offset += d->kernel_col_step;
            if (++col == d->kernel_cols) {
              col = 0;
              offset += d->kernel_row_step - d->kernel_cols * d->kernel_col_step;
            }
          }
          const lanes w = pair(weights, n + 1 < taps ? weights + d->padded : none);
          weights += 2 * d->padded;
#define MULTIPLY(t)                                                                                \
  sum##t = dot_words(sum##t,                                                                       \
                     pair(channels_at(d, at##t + places[0], k, multiplied, a),                     \
                          channels_at(d, at##t + places[1], k, multiplied, b)),                    \
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

/* A convolution of each channel by itself. Lanes are channels. The pixels of two weights make pairs
 * of words: one multiplication. Four positions share the weights.
 */
KERNEL void depthwise(const struct depthwise *d, const int8_t *in, int8_t *out) {
  if (d->multiplier > 1)
    depthwise_all(d, in, out, 1);
  else
    depthwise_all(d, in, out, 0);
}
