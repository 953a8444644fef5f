/* A convolution; what lies outside of the image is zero. weights[filter][row][column][channel]. */
static void convolve(const int8_t *in, int in_rows, int in_cols, int channels, int32_t in_zero,
                     const int8_t *weights, int kernel_rows, int kernel_cols, int stride_rows,
                     int stride_cols, int above, int left, const int32_t *bias,
                     const int32_t *multipliers, const int8_t *shifts, int32_t out_zero,
                     int32_t low, int8_t *out, int rows, int cols, int filters) {
  for (int y = 0; y < rows; y++)
    for (int x = 0; x < cols; x++)
      for (int k = 0; k < filters; k++) {
        int32_t sum = bias[k];
        for (int r = 0; r < kernel_rows; r++)
          for (int c = 0; c < kernel_cols; c++) {
            const int in_y = y * stride_rows - above + r, in_x = x * stride_cols - left + c;
            if (in_y < 0 || in_y >= in_rows || in_x < 0 || in_x >= in_cols)
              continue;
            const int8_t *from = in + (in_y * in_cols + in_x) * channels;
            const int8_t *w = weights + ((k * kernel_rows + r) * kernel_cols + c) * channels;
            for (int n = 0; n < channels; n++)
              sum += (from[n] - in_zero) * w[n];
          }
        *out++ = clamp(scale_twice(sum, multipliers[k], shifts[k]) + out_zero, low);
      }
}
