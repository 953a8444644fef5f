/* A max-pool. */
KERNEL void max_pool(const struct pool *p, const int8_t *in, int8_t *out) {
  for (int y = 0; y < p->rows; y++)
    for (int x = 0; x < p->cols; x++) {
      const int top = y * p->stride_rows - p->above, first = x * p->stride_cols - p->left;
      int8_t *to = out + y * p->out_line + x * p->out_step;
      memset(to, -128, (size_t)p->channels);
      for (int r = top < 0 ? 0 : top; r < top + p->window_rows && r < p->in_rows; r++)
        for (int c = first < 0 ? 0 : first; c < first + p->window_cols && c < p->in_cols; c++) {
          const int8_t *pixel = in + r * p->in_line + c * p->in_step;
          for (int n = 0; n < p->channels; n++)
            to[n] = pixel[n] > to[n] ? pixel[n] : to[n];
        }
      for (int n = 0; n < p->channels; n++)
        to[n] = clamp(to[n], p->low, p->high);
    }
}
