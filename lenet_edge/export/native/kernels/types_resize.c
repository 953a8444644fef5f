/* Nearest neighbours: output row y is input row in_rows[y], the columns likewise. */
struct resize {
  int rows, cols;
  size_t pixel;                         /* bytes */
  int in_line, out_line, out_step;
  const int16_t *in_rows, *in_cols;
};
