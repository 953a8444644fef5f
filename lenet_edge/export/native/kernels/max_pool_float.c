/* A max-pool; the part of a window outside of the image does not count. */
KERNEL void max_pool_float(const struct pool_float *p, const float *in, float *out) {
  for (int y = 0; y < p->rows; y++)
    for (int x = 0; x < p->cols; x++) {
      const int top = y * p->stride_rows - p->above, first = x * p->stride_cols - p->left;
      const int begin = top < 0 ? 0 : top, start = first < 0 ? 0 : first;
      const int last = top + p->window_rows < p->in_rows ? top + p->window_rows : p->in_rows;
      const int stop = first + p->window_cols < p->in_cols ? first + p->window_cols : p->in_cols;
      float *to = out + y * p->out_line + x * p->out_step;
      for (int n = 0; n < p->channels; n++)
        to[n] = -INFINITY_F;
      for (int r = begin; r < last; r++)
        for (int c = start; c < stop; c++) {
          const float *pixel = in + r * p->in_line + c * p->in_step;
          for (int n = 0; n < p->channels; n++)
            to[n] = pixel[n] > to[n] ? pixel[n] : to[n];
        }
      for (int n = 0; n < p->channels; n++)
        to[n] = limit(to[n], p->low, p->high);
    }
}
