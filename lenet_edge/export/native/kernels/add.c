/* The sum of two tensors, or their difference. Both go to a common scale, with 20 more bits. */
KERNEL void add(const struct elements *e, int sign, const int8_t *a, const int8_t *b,
                int8_t *out) {
  for (int i = 0; i < e->sizes[0]; i++)
    for (int j = 0; j < e->sizes[1]; j++)
      for (int k = 0; k < e->sizes[2]; k++) {
        const int8_t *x = a + i * e->a_steps[0] + j * e->a_steps[1] + k * e->a_steps[2];
        const int8_t *y = b + i * e->b_steps[0] + j * e->b_steps[1] + k * e->b_steps[2];
        int8_t *to = out + i * e->out_steps[0] + j * e->out_steps[1] + k * e->out_steps[2];
        for (int n = 0; n < e->count; n++) {
          const int32_t left = (x[n * e->a_step] - e->a_zero) * (1 << 20);
          const int32_t right = (y[n * e->b_step] - e->b_zero) * (1 << 20);
          const int32_t sum = scale_twice(left, e->a_multiplier, e->a_shift) +
                              sign * scale_twice(right, e->b_multiplier, e->b_shift);
          to[n] = clamp(scale_twice(sum, e->multiplier, e->shift) + e->zero, e->low, e->high);
        }
      }
}
