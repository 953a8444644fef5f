/* The product of two tensors. */
KERNEL void multiply(const struct elements *e, const int8_t *a, const int8_t *b, int8_t *out) {
  for (int i = 0; i < e->sizes[0]; i++)
    for (int j = 0; j < e->sizes[1]; j++)
      for (int k = 0; k < e->sizes[2]; k++) {
        const int8_t *x = a + i * e->a_steps[0] + j * e->a_steps[1] + k * e->a_steps[2];
        const int8_t *y = b + i * e->b_steps[0] + j * e->b_steps[1] + k * e->b_steps[2];
        int8_t *to = out + i * e->out_steps[0] + j * e->out_steps[1] + k * e->out_steps[2];
        for (int n = 0; n < e->count; n++) {
          const int32_t product = (x[n * e->a_step] - e->a_zero) * (y[n * e->b_step] - e->b_zero);
          to[n] = clamp(scale_twice(product, e->multiplier, e->shift) + e->zero, e->low, e->high);
        }
      }
}
