/* Fill a tensor with one value. */
KERNEL void spread(const struct walk *w, const int8_t *value, int8_t *out) {
  for (int a = 0; a < w->sizes[0]; a++)
    for (int b = 0; b < w->sizes[1]; b++)
      for (int c = 0; c < w->sizes[2]; c++)
        memset(out + a * w->out_steps[0] + b * w->out_steps[1] + c * w->out_steps[2], *value,
               (size_t)w->count);
}
