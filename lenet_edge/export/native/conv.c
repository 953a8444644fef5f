/* Any convolution. Lanes are filters; four pixels share each load of weights. With `pool` they are
 * a window of 2 x 2, of which only the largest value is stored; else they are neighbours.
 * weights[kernel row][column and channel][filter], with the filters padded to `padded`.
 * `line` and `step` are how far apart the inputs of neighbouring rows and columns are.
 */
INLINE void convolve(const float *in, int in_line, int line, int step, int kernel_rows,
                     int kernel_line, int rows, int cols, int filters, int padded,
                     const float *weights, const float *bias, int relu, int pool, float *out) {
  for (int k = 0; k < filters; k += LANES)
    for (int y = 0; y < rows; y++)
      for (int x = 0; x < cols; x += pool ? 1 : 4) {
        const int last = cols - 1;
#define PLACE(t)                                                                                   \
  const int x##t = x + t < last ? x + t : last;                                                    \
  const float *p##t = pool ? in + (2 * y + t / 2) * line + (2 * x + t % 2) * step                  \
                           : in + y * line + x##t * step;                                          \
  vec sum##t = {0};
        FOUR(PLACE)
        for (int r = 0; r < kernel_rows; r++) {
          const float *w = weights + r * kernel_line * padded + k;
          for (int n = 0; n < kernel_line; n++) {
            const vec weight = load(w + n * padded);
#define MULTIPLY(t) sum##t += weight * p##t[r * in_line + n];
            FOUR(MULTIPLY)
          }
        }
        const vec offset = load(bias + k);
        if (pool) {
          const vec best = larger(larger(sum0, sum1), larger(sum2, sum3)) + offset;
          store_part(out + (y * cols + x) * filters + k, relu ? larger(best, (vec){0}) : best,
                     filters - k);
        } else {
#define FINISH(t)                                                                                  \
  store_part(out + (y * cols + x##t) * filters + k,                                                \
             relu ? larger(sum##t + offset, (vec){0}) : sum##t + offset, filters - k);
          FOUR(FINISH)
        }
#undef PLACE
#undef MULTIPLY
#undef FINISH
      }
}
