/* Four integers minus their zero point, with 20 more bits, at the common scale. */
INLINE int32x4_t add_scaled(int16x4_t values, int32_t multiplier, int shift) {
  return scale_four_twice(vshll_n_s16(vshl_n_s16(values, 4), 16), vdupq_n_s32(multiplier),
                          vdupq_n_s32(shift), 0);
}

/* The sum of two tensors, or their difference. Both go to a common scale, with 20 more bits. */
KERNEL void add(const struct elements *e, int sign, const int8_t *a, const int8_t *b,
                int8_t *out) {
  for (int i = 0; i < e->sizes[0]; i++)
    for (int j = 0; j < e->sizes[1]; j++)
      for (int k = 0; k < e->sizes[2]; k++) {
        const int8_t *x = a + i * e->a_steps[0] + j * e->a_steps[1] + k * e->a_steps[2];
        const int8_t *y = b + i * e->b_steps[0] + j * e->b_steps[1] + k * e->b_steps[2];
        int8_t *to = out + i * e->out_steps[0] + j * e->out_steps[1] + k * e->out_steps[2];
        int n = 0;
        for (; n + 8 <= e->count && e->a_step == 1 && e->b_step == 1; n += 8) {
          const int16x8_t left = vsubl_s8(vld1_s8(x + n), vdup_n_s8((int8_t)e->a_zero));
          const int16x8_t right = vsubl_s8(vld1_s8(y + n), vdup_n_s8((int8_t)e->b_zero));
          int32x4_t sums[2];
          for (int h = 0; h < 2; h++) {
            const int32x4_t first = add_scaled(h ? vget_high_s16(left) : vget_low_s16(left),
                                               e->a_multiplier, e->a_shift);
            const int32x4_t second = add_scaled(h ? vget_high_s16(right) : vget_low_s16(right),
                                                e->b_multiplier, e->b_shift);
            sums[h] = scale_four_twice(
                sign < 0 ? vsubq_s32(first, second) : vaddq_s32(first, second),
                vdupq_n_s32(e->multiplier), vdupq_n_s32(e->shift), 0);
          }
          store_bytes(to + n, clamp_eight(sums[0], sums[1], e->zero, e->low, e->high), 8);
        }
        for (; n < e->count; n++) {
          const int32_t left = (x[n * e->a_step] - e->a_zero) * (1 << 20);
          const int32_t right = (y[n * e->b_step] - e->b_zero) * (1 << 20);
          const int32_t sum = scale_twice(left, e->a_multiplier, e->a_shift) +
                              sign * scale_twice(right, e->b_multiplier, e->b_shift);
          to[n] = clamp(scale_twice(sum, e->multiplier, e->shift) + e->zero, e->low, e->high);
        }
      }
}
