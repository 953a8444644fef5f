/* An average pool, 16 channels at a time; halves are rounded away from zero, in the integers of
 * the file: those of uint8 files are never negative.
 */
KERNEL void average_pool(const struct pool *p, const int8_t *in, int8_t *out) {
  for (int y = 0; y < p->rows; y++)
    for (int x = 0; x < p->cols; x++) {
      const int top = y * p->stride_rows - p->above, first = x * p->stride_cols - p->left;
      const int begin = top < 0 ? 0 : top, start = first < 0 ? 0 : first;
      const int last = top + p->window_rows < p->in_rows ? top + p->window_rows : p->in_rows;
      const int stop = first + p->window_cols < p->in_cols ? first + p->window_cols : p->in_cols;
      const int32_t count = (last - begin) * (stop - start);
      for (int k = 0; k < p->channels; k += 16) {
        const int most = p->channels - k < 16 ? p->channels - k : 16;
        int32_t sums[16] = {0};
        for (int r = begin; r < last; r++)
          for (int c = start; c < stop; c++)
            for (int n = 0; n < most; n++)
              sums[n] += in[r * p->in_line + c * p->in_step + k + n];
        for (int n = 0; n < most; n++) {
          const int32_t sum = sums[n] + count * p->offset;
          const int32_t mean = (sum > 0 ? sum + count / 2 : sum - count / 2) / count;
          out[y * p->out_line + x * p->out_step + k + n] =
              clamp(mean - p->offset, p->low, p->high);
        }
      }
    }
}
