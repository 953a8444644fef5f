/* The product of two tensors. */
KERNEL void multiply_float(const struct elements_float *e, const float *a,
                           const float *b, float *out) {
  for (int i = 0; i < e->sizes[0]; i++)
    for (int j = 0; j < e->sizes[1]; j++)
      for (int k = 0; k < e->sizes[2]; k++) {
        const float *x = a + i * e->a_steps[0] + j * e->a_steps[1] + k * e->a_steps[2];
        const float *y = b + i * e->b_steps[0] + j * e->b_steps[1] + k * e->b_steps[2];
        float *to = out + i * e->out_steps[0] + j * e->out_steps[1] + k * e->out_steps[2];
        for (int n = 0; n < e->count; n++)
          to[n] = limit(x[n * e->a_step] * y[n * e->b_step], e->low, e->high);
      }
}
