/* Any convolution, 16 filters at a time. Of the positions that a pool covers, the largest sum goes
 * on: scaling keeps the order, so that only one sum of each window is scaled.
 */
KERNEL void convolve(const struct convolution *c, const int8_t *in, int8_t *out) {
  for (int y = 0; y < c->rows; y++)
    for (int x = 0; x < c->cols; x++)
      for (int k = 0; k < c->filters; k += 16) {
        const int count = c->padded - k < 16 ? c->padded - k : 16;
        int32_t best[16], sums[16];
        for (int n = 0; n < count; n++)
          best[n] = INT32_MIN;
        for (int p = 0; p < c->pool_rows * c->pool_cols; p++) {
          const int8_t *from = in + y * c->pool_row_step + x * c->pool_col_step +
                               p / c->pool_cols * c->row_step + p % c->pool_cols * c->col_step;
          const int8_t *w = c->weights + 4 * k;
          memcpy(sums, c->bias + k, sizeof *sums * (size_t)count);
          for (int r = 0; r < c->run_rows; r++)
            for (int s = 0; s < c->run_cols; s++) {
              const int8_t *run = from + r * c->run_row_step + s * c->run_col_step;
              for (int g = 0; g < c->run_groups; g++, run += 4, w += 4 * c->padded)
                for (int n = 0; n < count; n++)
                  sums[n] += w[4 * n] * run[0] + w[4 * n + 1] * run[1] + w[4 * n + 2] * run[2] +
                             w[4 * n + 3] * run[3];
            }
          for (int n = 0; n < count; n++)
            best[n] = sums[n] > best[n] ? sums[n] : best[n];
        }
        int8_t *to = out + y * c->out_line + x * c->out_step + k;
        for (int n = 0; n < count && k + n < c->filters; n++)
          to[n] = clamp(scale_twice(best[n], c->multipliers[k + n], c->shifts[k + n]) + c->zero,
                        c->low, c->high);
      }
}
