/* Floats to integers, rounded to nearest, halves away from zero. */
KERNEL void quantize(const struct walk *w, float scale, int32_t zero, const float *in,
                     int8_t *out) {
  for (int a = 0; a < w->sizes[0]; a++)
    for (int b = 0; b < w->sizes[1]; b++)
      for (int c = 0; c < w->sizes[2]; c++) {
        const float *from = in + a * w->in_steps[0] + b * w->in_steps[1] + c * w->in_steps[2];
        int8_t *to = out + a * w->out_steps[0] + b * w->out_steps[1] + c * w->out_steps[2];
        for (int n = 0; n < w->count; n++) {
          float value = from[n] / scale;
          value = value > -1024.0f ? value : -1024.0f; /* not a number becomes this too */
          value = value < 1024.0f ? value : 1024.0f;
          const int32_t whole = (int32_t)value;
          const float rest = value - (float)whole;
          to[n] = clamp(whole + (rest >= 0.5f) - (rest <= -0.5f) + zero, -128, 127);
        }
      }
}
