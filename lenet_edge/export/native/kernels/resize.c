/* Nearest neighbours: output row y is input row in_rows[y], the columns likewise. */
KERNEL void resize(const struct resize *r, const void *in, void *out) {
  for (int y = 0; y < r->rows; y++)
    for (int x = 0; x < r->cols; x++)
      memcpy((char *)out + y * r->out_line + x * r->out_step,
             (const char *)in + r->in_rows[y] * r->in_line + r->in_cols[x] * (int)r->pixel,
             r->pixel);
}
