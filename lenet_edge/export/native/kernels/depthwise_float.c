/* A convolution of each channel by itself, 16 channels at a time. */
KERNEL void depthwise_float(const struct depthwise_float *d, const float *in, float *out) {
  for (int y = 0; y < d->rows; y++)
    for (int x = 0; x < d->cols; x++)
      for (int k = 0; k < d->channels; k += 16) {
        const int count = d->channels - k < 16 ? d->channels - k : 16;
        const float *from = in + y * d->row_step + x * d->col_step;
        const float *w = d->weights + k;
        float sums[16] = {0.0f};
        for (int r = 0; r < d->kernel_rows; r++)
          for (int s = 0; s < d->kernel_cols; s++, w += d->channels) {
            const float *pixel = from + r * d->kernel_row_step + s * d->kernel_col_step;
            if (d->multiplier == 1)
              for (int n = 0; n < count; n++)
                sums[n] += w[n] * pixel[k + n];
            else
              for (int n = 0; n < count; n++)
                sums[n] += w[n] * pixel[(k + n) / d->multiplier];
          }
        float *to = out + y * d->out_line + x * d->out_step + k;
        for (int n = 0; n < count; n++)
          to[n] = limit(sums[n] + d->bias[k + n], d->low, d->high);
      }
}
