/* Surround an image of rows x line floats with zeros. */
INLINE void pad(const float *in, int rows, int line, int above, int left, int out_rows,
                int out_line, float *out) {
  memset(out, 0, sizeof *out * (size_t)(out_rows * out_line));
  for (int y = 0; y < rows; y++)
    memcpy(out + (y + above) * out_line + left, in + y * line, sizeof *in * (size_t)line);
}
