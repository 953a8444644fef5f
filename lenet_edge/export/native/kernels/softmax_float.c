/* The softmax of `count` neighbours. */
KERNEL void softmax_float(const struct walk *w, float beta, const float *in, float *out) {
  for (int a = 0; a < w->sizes[0]; a++)
    for (int b = 0; b < w->sizes[1]; b++)
      for (int c = 0; c < w->sizes[2]; c++) {
        const float *from = in + a * w->in_steps[0] + b * w->in_steps[1] + c * w->in_steps[2];
        float *to = out + a * w->out_steps[0] + b * w->out_steps[1] + c * w->out_steps[2];
        float best = from[0], sum = 0.0f;
        for (int n = 1; n < w->count; n++)
          best = from[n] > best ? from[n] : best;
        for (int n = 0; n < w->count; n++) {
          to[n] = exponential((from[n] - best) * beta);
          sum += to[n];
        }
        for (int n = 0; n < w->count; n++)
          to[n] /= sum;
      }
}
