/* Fill a tensor with one value. */
KERNEL void spread_float(const struct walk *w, const float *value, float *out) {
  for (int a = 0; a < w->sizes[0]; a++)
    for (int b = 0; b < w->sizes[1]; b++)
      for (int c = 0; c < w->sizes[2]; c++) {
        float *to = out + a * w->out_steps[0] + b * w->out_steps[1] + c * w->out_steps[2];
        for (int n = 0; n < w->count; n++)
          to[n] = *value;
      }
}
