/* A dense layer, 16 outputs at a time. */
KERNEL void dense(const struct dense *d, const int8_t *in, int8_t *out) {
  for (int k = 0; k < d->outputs; k += 16) {
    const int count = d->padded - k < 16 ? d->padded - k : 16;
    const int8_t *w = d->weights + 4 * k;
    const int8_t *x = in;
    int32_t sums[16];
    memcpy(sums, d->bias + k, sizeof *sums * (size_t)count);
#ifdef INT4
    for (int g = 0; g < d->groups; g += 2, x += 8, w += 4 * d->padded)
      for (int n = 0; n < 4 * count; n++)
        sums[n / 4] += (int8_t)(w[n] * 16) * x[n % 4] + (w[n] & ~15) * x[4 + n % 4];
#else
    for (int g = 0; g < d->groups; g++, x += 4, w += 4 * d->padded)
      for (int n = 0; n < count; n++)
        sums[n] += w[4 * n] * x[0] + w[4 * n + 1] * x[1] + w[4 * n + 2] * x[2] +
                   w[4 * n + 3] * x[3];
#endif
    for (int n = 0; n < count && k + n < d->outputs; n++)
      out[k + n] = clamp(scale_once(sums[n], d->multipliers[k + n], d->shifts[k + n]) + d->zero,
                         d->low, d->high);
  }
}
