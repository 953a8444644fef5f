/* A max-pool; a window that begins or ends outside of the image is cut. */
static void max_pool(const int8_t *in, int in_rows, int in_cols, int channels, int pool_rows,
                     int pool_cols, int stride_rows, int stride_cols, int above, int left,
                     int32_t low, int8_t *out, int rows, int cols) {
  for (int y = 0; y < rows; y++)
    for (int x = 0; x < cols; x++)
      for (int n = 0; n < channels; n++) {
        int32_t best = low;
        for (int r = 0; r < pool_rows; r++)
          for (int c = 0; c < pool_cols; c++) {
            const int in_y = y * stride_rows - above + r, in_x = x * stride_cols - left + c;
            if (in_y < 0 || in_y >= in_rows || in_x < 0 || in_x >= in_cols)
              continue;
            const int8_t value = in[(in_y * in_cols + in_x) * channels + n];
            best = value > best ? value : best;
          }
        *out++ = (int8_t)best;
      }
}
