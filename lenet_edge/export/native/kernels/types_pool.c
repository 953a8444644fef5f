/* Windows of a pool; the part of a window outside of the image does not count. */
struct pool {
  int rows, cols, channels;             /* of the output */
  int in_rows, in_cols;
  int window_rows, window_cols, stride_rows, stride_cols, above, left;
  int in_line, in_step, out_line, out_step;
  int32_t low, high;
  int32_t offset;                       /* from a stored integer to the one in the file */
};
