/* The inputs of 16 channels, from output channel `k` on. */
INLINE int8x16_t load_channels(const int8_t *pixel, int k, int multiplier) {
  if (multiplier == 1) return vld1q_s8(pixel + k);
  int8_t channels[16];
  for (int n = 0; n < 16; n++)
    channels[n] = pixel[(k + n) / multiplier];
  return vld1q_s8(channels);
}

/* 16 channels of one position, from channel `k` on. The products of two weights fit 16 bits. */
INLINE void depthwise_channels(const struct depthwise *d, const int8_t *from, int8_t *to, int k,
                               int multiplier, int plain) {
  const int8_t *w = d->weights + k;
  int32x4_t sum0 = vld1q_s32(d->bias + k), sum1 = vld1q_s32(d->bias + k + 4);
  int32x4_t sum2 = vld1q_s32(d->bias + k + 8), sum3 = vld1q_s32(d->bias + k + 12);
#define ADD(low, high)                                                                             \
  {                                                                                                \
    sum0 = vaddw_s16(sum0, vget_low_s16(low));                                                     \
    sum1 = vaddw_high_s16(sum1, low);                                                              \
    sum2 = vaddw_s16(sum2, vget_low_s16(high));                                                    \
    sum3 = vaddw_high_s16(sum3, high);                                                             \
  }
  for (int r = 0; r < d->kernel_rows; r++) {
    const int8_t *pixel = from + r * d->kernel_row_step;
    int s = 0;
    for (; s + 2 <= d->kernel_cols; s += 2, w += 2 * d->padded) {
      const int8x16_t one = load_channels(pixel, k, multiplier), first = vld1q_s8(w);
      const int8x16_t two = load_channels(pixel + d->kernel_col_step, k, multiplier);
      const int8x16_t second = vld1q_s8(w + d->padded);
      const int16x8_t low = vmlal_s8(vmull_s8(vget_low_s8(one), vget_low_s8(first)),
                                     vget_low_s8(two), vget_low_s8(second));
      const int16x8_t high = vmlal_high_s8(vmull_high_s8(one, first), two, second);
      ADD(low, high)
      pixel += 2 * d->kernel_col_step;
    }
    if (s < d->kernel_cols) {
      const int8x16_t one = load_channels(pixel, k, multiplier), first = vld1q_s8(w);
      const int16x8_t low = vmull_s8(vget_low_s8(one), vget_low_s8(first));
      const int16x8_t high = vmull_high_s8(one, first);
      ADD(low, high)
      w += d->padded;
    }
  }
#undef ADD
#define SCALE(n)                                                                                   \
  scale_four_twice(sum##n, vld1q_s32(d->multipliers + k + 4 * n),                                  \
                   load_shifts(d->shifts + k + 4 * n), plain)
  store_bytes(to, clamp_all(SCALE(0), SCALE(1), SCALE(2), SCALE(3), d->zero, d->low, d->high),
              d->channels - k);
#undef SCALE
}

/* 3 x 3 weights of 16 channels, which stay in registers; of 8 channels if `half`. */
INLINE void depthwise_3x3(const struct depthwise *d, const int8_t *in, int8_t *out, int k,
                          int half, int plain) {
  const int8_t *w = d->weights + k;
  const int step = d->kernel_col_step, count = d->channels - k;
#define WEIGHT(n) const int8x16_t w##n = vld1q_s8(w + n * d->padded);
  WEIGHT(0) WEIGHT(1) WEIGHT(2) WEIGHT(3) WEIGHT(4) WEIGHT(5) WEIGHT(6) WEIGHT(7) WEIGHT(8)
#define CONSTANTS(n)                                                                               \
  const int32x4_t bias##n = vld1q_s32(d->bias + k + 4 * n);                                        \
  const int32x4_t multiplier##n = vld1q_s32(d->multipliers + k + 4 * n);                           \
  const int32x4_t shift##n = load_shifts(d->shifts + k + 4 * n);
  CONSTANTS(0) CONSTANTS(1) CONSTANTS(2) CONSTANTS(3)
  for (int y = 0; y < d->rows; y++)
    for (int x = 0; x < d->cols; x++) {
      const int8_t *top = in + y * d->row_step + x * d->col_step + k;
      const int8_t *middle = top + d->kernel_row_step, *bottom = middle + d->kernel_row_step;
      int32x4_t sum0 = bias0, sum1 = bias1, sum2 = bias2, sum3 = bias3;
#define ADD(low, high)                                                                             \
  sum0 = vaddw_s16(sum0, vget_low_s16(low));                                                       \
  sum1 = vaddw_high_s16(sum1, low);                                                                \
  if (!half) {                                                                                     \
    sum2 = vaddw_s16(sum2, vget_low_s16(high));                                                    \
    sum3 = vaddw_high_s16(sum3, high);                                                             \
  }
#define PAIR(v, at, u, next)                                                                       \
  {                                                                                                \
    const int8x16_t one = vld1q_s8(at), two = vld1q_s8(next);                                      \
    const int16x8_t low = vmlal_s8(vmull_s8(vget_low_s8(one), vget_low_s8(v)), vget_low_s8(two),   \
                                   vget_low_s8(u));                                                \
    const int16x8_t high = vmlal_high_s8(vmull_high_s8(one, v), two, u);                           \
    ADD(low, high)                                                                                 \
  }
      PAIR(w0, top, w1, top + step)
      PAIR(w2, top + 2 * step, w3, middle)
      PAIR(w4, middle + step, w5, middle + 2 * step)
      PAIR(w6, bottom, w7, bottom + step)
      const int8x16_t last = vld1q_s8(bottom + 2 * step);
      const int16x8_t low = vmull_s8(vget_low_s8(last), vget_low_s8(w8));
      const int16x8_t high = vmull_high_s8(last, w8);
      ADD(low, high)
#define SCALE(n) scale_four_twice(sum##n, multiplier##n, shift##n, plain)
      int8_t *to = out + y * d->out_line + x * d->out_step + k;
      if (half)
        store_bytes(to, clamp_eight(SCALE(0), SCALE(1), d->zero, d->low, d->high), count);
      else
        store_bytes(to, clamp_all(SCALE(0), SCALE(1), SCALE(2), SCALE(3), d->zero, d->low,
                                  d->high), count);
    }
#undef WEIGHT
#undef CONSTANTS
#undef ADD
#undef PAIR
#undef SCALE
}

/* A convolution of each channel by itself. Lanes are channels. */
KERNEL void depthwise(const struct depthwise *d, const int8_t *in, int8_t *out) {
  const int plain = d->low >= d->zero && !has_left_shift(d->shifts, d->padded);
  if (d->kernel_rows == 3 && d->kernel_cols == 3 && d->multiplier == 1) {
    for (int k = 0; k < d->channels; k += 16) {
      const int half = d->channels - k <= 8;
      if (half && plain) depthwise_3x3(d, in, out, k, 1, 1);
      if (half && !plain) depthwise_3x3(d, in, out, k, 1, 0);
      if (!half && plain) depthwise_3x3(d, in, out, k, 0, 1);
      if (!half && !plain) depthwise_3x3(d, in, out, k, 0, 0);
    }
    return;
  }
  for (int y = 0; y < d->rows; y++)
    for (int x = 0; x < d->cols; x++) {
      const int8_t *from = in + y * d->row_step + x * d->col_step;
      int8_t *to = out + y * d->out_line + x * d->out_step;
      for (int k = 0; k < d->channels; k += 16)
        if (d->multiplier == 1)
          depthwise_channels(d, from, to + k, k, 1, plain);
        else
          depthwise_channels(d, from, to + k, k, d->multiplier, plain);
    }
}
