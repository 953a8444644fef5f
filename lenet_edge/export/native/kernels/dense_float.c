/* A dense layer, 16 outputs at a time. */
KERNEL void dense_float(const struct dense_float *d, const float *in, float *out) {
  for (int k = 0; k < d->outputs; k += 16) {
    const int count = d->outputs - k < 16 ? d->outputs - k : 16;
    const float *w = d->weights + k;
    float sums[16] = {0.0f};
    for (int g = 0; g < d->inputs; g++, w += d->outputs)
      for (int n = 0; n < count; n++)
        sums[n] += w[n] * in[g];
    for (int n = 0; n < count; n++)
      out[k + n] = limit(sums[n] + d->bias[k + n], d->low, d->high);
  }
}
