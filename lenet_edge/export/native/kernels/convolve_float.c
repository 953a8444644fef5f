/* Any convolution, with the max-pool behind it, 16 filters at a time. */
KERNEL void convolve_float(const struct convolution_float *c, const float *in, float *out) {
  for (int y = 0; y < c->rows; y++)
    for (int x = 0; x < c->cols; x++)
      for (int k = 0; k < c->filters; k += 16) {
        const int count = c->filters - k < 16 ? c->filters - k : 16;
        float best[16], sums[16];
        for (int n = 0; n < count; n++)
          best[n] = -INFINITY_F;
        for (int p = 0; p < c->pool_rows * c->pool_cols; p++) {
          const float *from = in + y * c->pool_row_step + x * c->pool_col_step +
                              p / c->pool_cols * c->row_step + p % c->pool_cols * c->col_step;
          const float *w = c->weights + k;
          for (int n = 0; n < count; n++)
            sums[n] = 0.0f;
          for (int r = 0; r < c->run_rows; r++)
            for (int s = 0; s < c->run_cols; s++) {
              const float *run = from + r * c->run_row_step + s * c->run_col_step;
              for (int g = 0; g < c->run_bytes; g++, w += c->filters)
                for (int n = 0; n < count; n++)
                  sums[n] += w[n] * run[g];
            }
          for (int n = 0; n < count; n++)
            best[n] = sums[n] > best[n] ? sums[n] : best[n];
        }
        float *to = out + y * c->out_line + x * c->out_step + k;
        for (int n = 0; n < count; n++)
          to[n] = limit(best[n] + c->bias[k + n], c->low, c->high);
      }
}
