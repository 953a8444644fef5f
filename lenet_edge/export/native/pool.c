/* Any max-pool. A window that begins above or left of the image, or ends beyond it, is cut. */
INLINE void max_pool(const float *in, int in_rows, int in_cols, int channels, int pool_rows,
                     int pool_cols, int stride_rows, int stride_cols, int above, int left,
                     int rows, int cols, float *out) {
  for (int y = 0; y < rows; y++)
    for (int x = 0; x < cols; x++) {
      const int top = y * stride_rows - above, side = x * stride_cols - left;
      float *to = out + (y * cols + x) * channels;
      int first = 1;
      for (int r = top < 0 ? 0 : top; r < top + pool_rows && r < in_rows; r++)
        for (int c = side < 0 ? 0 : side; c < side + pool_cols && c < in_cols; c++) {
          const float *from = in + (r * in_cols + c) * channels;
          for (int n = 0; n < channels; n++)
            to[n] = first || from[n] > to[n] ? from[n] : to[n];
          first = 0;
        }
    }
}
