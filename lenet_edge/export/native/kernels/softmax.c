/* The softmax of `count` neighbours, in fixed point: exponentials[n] is that of an input n below
 * the largest one. TensorFlow Lite's reference kernel computes the same without a table.
 */
INLINE void softmax_row(const int32_t *exponentials, int count, const int8_t *in, int8_t *out) {
  int8_t best = -128;
  for (int n = 0; n < count; n++)
    best = in[n] > best ? in[n] : best;
  int32_t sum = 0; /* with 12 integer bits */
  for (int n = 0; n < count; n++)
    sum += (int32_t)(((int64_t)exponentials[best - in[n]] + (1 << 11)) >> 12);
  int above = 12; /* bits of the sum above 1 */
  uint32_t left = (uint32_t)sum;
  for (; left < (uint32_t)1 << 31; left <<= 1)
    above--;
  /* The inverse of the sum, by three steps of Newton and Raphson. */
  const int32_t half = (int32_t)(((int64_t)left - ((int64_t)1 << 31) + INT32_MAX + 1) / 2);
  int32_t inverse = 1515870810 + (int32_t)(((int64_t)half * -1010580540 + (1 << 30)) >> 31);
  for (int n = 0; n < 3; n++) {
    const int32_t rest = (1 << 29) - (int32_t)(((int64_t)half * inverse + (1 << 30)) >> 31);
    const int64_t step = ((int64_t)inverse * rest + (1 << 30)) >> 31;
    inverse += (int32_t)(step * 4);
  }
  const int64_t scale = inverse > (1 << 30) - 1 ? INT32_MAX : (int64_t)inverse * 2;
  const int right = above + 23;
  for (int n = 0; n < count; n++) {
    const int64_t product = (scale * exponentials[best - in[n]] + (1 << 30)) >> 31;
    const int64_t value = (product + (((int64_t)1 << right) >> 1)) >> right;
    out[n] = clamp((int32_t)value - 128, -128, 127);
  }
}

KERNEL void softmax(const struct walk *w, const int32_t *exponentials, const int8_t *in,
                    int8_t *out) {
  for (int a = 0; a < w->sizes[0]; a++)
    for (int b = 0; b < w->sizes[1]; b++)
      for (int c = 0; c < w->sizes[2]; c++)
        softmax_row(exponentials, w->count,
                    in + a * w->in_steps[0] + b * w->in_steps[1] + c * w->in_steps[2],
                    out + a * w->out_steps[0] + b * w->out_steps[1] + c * w->out_steps[2]);
}
