/* The sum or the difference of two numbers, as in TensorFlow Lite. */
INLINE int8_t add_one(const struct elements *e, int sign, int8_t x, int8_t y) {
  const int32_t left = (x - e->a_zero) * (1 << 20), right = (y - e->b_zero) * (1 << 20);
  const int32_t sum = scale_twice(left, e->a_multiplier, e->a_shift) +
                      sign * scale_twice(right, e->b_multiplier, e->b_shift);
  return clamp(scale_twice(sum, e->multiplier, e->shift) + e->zero, e->low, e->high);
}

/* The sum of two tensors, or their difference. Both go to a common scale, with 20 more bits. */
KERNEL void add(const struct elements *e, int sign, const int8_t *a, const int8_t *b,
                int8_t *out) {
  const int whole = e->a_step == 1 && e->b_step == 1 ? e->count - e->count % OUTPUTS : 0;
  for (int i = 0; i < e->sizes[0]; i++)
    for (int j = 0; j < e->sizes[1]; j++)
      for (int k = 0; k < e->sizes[2]; k++) {
        const int8_t *x = a + i * e->a_steps[0] + j * e->a_steps[1] + k * e->a_steps[2];
        const int8_t *y = b + i * e->b_steps[0] + j * e->b_steps[1] + k * e->b_steps[2];
        int8_t *to = out + i * e->out_steps[0] + j * e->out_steps[1] + k * e->out_steps[2];
        for (int n = 0; n < whole; n += OUTPUTS) {
          const lanes left = twice_all(load_integers(x + n, e->a_zero, 20), e->a_multiplier, e->a_shift);
          const lanes right = twice_all(load_integers(y + n, e->b_zero, 20), e->b_multiplier, e->b_shift);
          const lanes sum = sign > 0 ? plus(left, right) : minus(left, right);
          store_bytes(plus(twice_all(sum, e->multiplier, e->shift), same(e->zero)), e->low, e->high,
                      to + n, OUTPUTS);
        }
        for (int n = whole; n < e->count; n++)
          to[n] = add_one(e, sign, x[n * e->a_step], y[n * e->b_step]);
      }
}
