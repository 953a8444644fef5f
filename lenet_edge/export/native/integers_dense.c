/* A dense layer. weights[output][input]. */
static void dense(const int8_t *in, int count, int32_t in_zero, const int8_t *weights,
                  const int32_t *bias, const int32_t *multipliers, const int8_t *shifts,
                  int32_t out_zero, int32_t low, int8_t *out, int outputs) {
  for (int k = 0; k < outputs; k++) {
    int32_t sum = bias[k];
    for (int n = 0; n < count; n++)
      sum += (in[n] - in_zero) * weights[k * count + n];
    out[k] = clamp(scale_once(sum, multipliers[k], shifts[k]) + out_zero, low);
  }
}
