#if defined(__aarch64__)
#define MULTIPLY_HIGH(sum, a, b) vmlal_high_s16(sum, a, b)
#else
#define MULTIPLY_HIGH(sum, a, b) vmlal_s16(sum, vget_high_s16(a), vget_high_s16(b))
#endif

/* Make a list of pairs (n, input n as an integer of 16 bits), without the inputs that are zero. */
INLINE int round_inputs(const float *in, int count, float factor, int *pairs) {
  int *to = pairs;
  UNROLL(4)
  for (int n = 0; n < count; n++) {
    const float sum = in[n] * factor + 12582912.0f; /* 1.5 * 2^23: the last bits are the integer */
    int32_t bits;
    memcpy(&bits, &sum, sizeof bits);
    to[0] = n;
    to[1] = bits;
    to += 2 * ((int16_t)bits != 0);
  }
  return (int)(to - pairs) / 2;
}

/* The largest absolute value. */
INLINE float find_largest(const float *in, int count) {
  float32x4_t most = vdupq_n_f32(0);
  for (int n = 0; n < (count & ~3); n += 4)
    most = vmaxq_f32(most, vabsq_f32(vld1q_f32(in + n)));
  float lanes[4];
  vst1q_f32(lanes, most);
  for (int n = count & ~3; n < count; n++)
    lanes[0] = !(lanes[0] >= in[n]) ? in[n] : !(lanes[0] >= -in[n]) ? -in[n] : lanes[0];
  for (int n = 1; n < 4; n++)
    lanes[0] = !(lanes[0] >= lanes[n]) ? lanes[n] : lanes[0];
  return lanes[0];
}

/* `blocks` times 16 outputs, one input after the other. weights[input][output]. */
INLINE void dense_block(const int *pairs, int found, const int8_t *weights, int padded, int blocks,
                        float unit, const float *scales, const float *bias, int relu, float *out) {
#define START(b) int32x4_t p##b = vdupq_n_s32(0), q##b = p##b, r##b = p##b, s##b = p##b;
  FOUR(START)
  for (int n = 0; n < found; n++) {
    const int8_t *w = weights + pairs[2 * n] * padded;
    const int16x8_t value = vdupq_n_s16((int16_t)pairs[2 * n + 1]);
#define MULTIPLY(b)                                                                                \
  if (b < blocks) {                                                                                \
    const int8x16_t bytes = vld1q_s8(w + b * 16);                                                  \
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));      \
    p##b = vmlal_s16(p##b, vget_low_s16(low), vget_low_s16(value));                                              \
    q##b = MULTIPLY_HIGH(q##b, low, value);                                             \
    r##b = vmlal_s16(r##b, vget_low_s16(high), vget_low_s16(value));                                             \
    s##b = MULTIPLY_HIGH(s##b, high, value);                                            \
  }
    FOUR(MULTIPLY)
  }
#define STORE(sum, k)                                                                              \
  {                                                                                                \
    const vec value = (vec)vcvtq_f32_s32(sum) * (load(scales + k) * unit) + load(bias + k);        \
    store(out + k, relu ? larger(value, (vec){0}) : value);                                        \
  }
#define FINISH(b)                                                                                  \
  if (b < blocks) {                                                                                \
    STORE(p##b, b * 16)                                                                            \
    STORE(q##b, b * 16 + 4)                                                                        \
    STORE(r##b, b * 16 + 8)                                                                        \
    STORE(s##b, b * 16 + 12)                                                                       \
  }
  FOUR(FINISH)
#undef START
#undef MULTIPLY
#undef STORE
#undef FINISH
}

/* A dense layer. NEON needs more instructions to widen int8 weights to floats than to load floats.
 * Therefore the inputs become integers of 16 bits, so small that no sum of products overflows.
 */
INLINE void dense(const float *in, int count, const int8_t *weights, const float *scales,
                  const float *bias, int padded, int relu, int *pairs, float *out) {
  const float largest = find_largest(in, count);
  const int most = INT32_MAX / 127 / count, limit = most < INT16_MAX ? most : INT16_MAX;
  const int found = round_inputs(in, count, (float)limit / (largest > 0 ? largest : 1), pairs);
  const float unit = largest / (float)limit;
  const int whole = padded & ~63;
  for (int k = 0; k < whole; k += 64)
    dense_block(pairs, found, weights + k, padded, 4, unit, scales + k, bias + k, relu, out + k);
  if (whole < padded)
    dense_block(pairs, found, weights + whole, padded, (padded - whole) / 16, unit, scales + whole,
                bias + whole, relu, out + whole);
}
