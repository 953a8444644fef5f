/* A convolution of each channel by itself, 16 channels at a time. */
KERNEL void depthwise(const struct depthwise *d, const int8_t *in, int8_t *out) {
  for (int y = 0; y < d->rows; y++)
    for (int x = 0; x < d->cols; x++)
      for (int k = 0; k < d->channels; k += 16) {
        const int count = d->channels - k < 16 ? d->channels - k : 16;
        const int8_t *from = in + y * d->row_step + x * d->col_step;
        const int8_t *w = d->weights + k;
        int32_t sums[16];
        memcpy(sums, d->bias + k, sizeof *sums * (size_t)count);
        for (int r = 0; r < d->kernel_rows; r++)
          for (int s = 0; s < d->kernel_cols; s++, w += d->padded) {
            const int8_t *pixel = from + r * d->kernel_row_step + s * d->kernel_col_step;
            if (d->multiplier == 1)
              for (int n = 0; n < count; n++)
                sums[n] += w[n] * pixel[k + n];
            else
              for (int n = 0; n < count; n++)
                sums[n] += w[n] * pixel[(k + n) / d->multiplier];
          }
        int8_t *to = out + y * d->out_line + x * d->out_step + k;
        for (int n = 0; n < count; n++)
          to[n] = clamp(scale_twice(sums[n], d->multipliers[k + n], d->shifts[k + n]) + d->zero,
                        d->low, d->high);
      }
}
