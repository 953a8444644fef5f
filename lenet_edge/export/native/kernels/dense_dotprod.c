/* `blocks` vectors of four outputs, from output `k` on. */
INLINE void dense_outputs(const struct dense *d, const int8_t *in, int8_t *out, int k, int blocks) {
#define FOUR_BLOCKS(DO, a, b, c, d) DO(a) DO(b) DO(c) DO(d)
#define EACH_BLOCK(DO)                                                                             \
  FOUR_BLOCKS(DO, 0, 1, 2, 3) FOUR_BLOCKS(DO, 4, 5, 6, 7)                                          \
  FOUR_BLOCKS(DO, 8, 9, 10, 11) FOUR_BLOCKS(DO, 12, 13, 14, 15)
#define START(b) int32x4_t sum##b = vld1q_s32(d->bias + k + (b < blocks ? 4 * b : 0));
  EACH_BLOCK(START)
  const int8_t *w = d->weights + 4 * k;
  int g = 0;
#ifdef INT4
#define ADD(b, lane, next)                                                                         \
  if (b < blocks) {                                                                                \
    const int8x16_t both = vld1q_s8(w + 16 * b);                                                   \
    const int8x16_t first = vshlq_n_s8(both, 4), second = vandq_s8(both, vdupq_n_s8(-16));         \
    ADD_DOT(sum##b, first, inputs, lane);                                                          \
    ADD_DOT(sum##b, second, inputs, next);                                                         \
  }
#define ADD_GROUPS(lane, next)                                                                     \
  ADD(0, lane, next) ADD(1, lane, next) ADD(2, lane, next) ADD(3, lane, next)                      \
  ADD(4, lane, next) ADD(5, lane, next) ADD(6, lane, next) ADD(7, lane, next)                      \
  ADD(8, lane, next) ADD(9, lane, next) ADD(10, lane, next) ADD(11, lane, next)                    \
  ADD(12, lane, next) ADD(13, lane, next) ADD(14, lane, next) ADD(15, lane, next)                  \
  w += 4 * d->padded;
  for (; g + 4 <= d->groups; g += 4) {
    const int8x16_t inputs = vld1q_s8(in + 4 * g);
    ADD_GROUPS(0, 1)
    ADD_GROUPS(2, 3)
  }
  const int rest = d->groups - g;
  const int8x16_t inputs = vld1q_s8(in + 4 * g);
  if (rest > 0) { ADD_GROUPS(0, 1) }
  if (rest > 2) { ADD_GROUPS(2, 3) }
#undef ADD_GROUPS
#else
#define ADD(b, lane)                                                                               \
  if (b < blocks) {                                                                                \
    const int8x16_t weights = vld1q_s8(w + 16 * b);                                                \
    ADD_DOT(sum##b, weights, inputs, lane);                                                        \
  }
#define ADD_FOUR(a, b, c, e, lane)                                                                 \
  if (e < blocks) {                                                                                \
    const int8x16x4_t weights = vld1q_s8_x4(w + 16 * a);                                           \
    ADD_DOT(sum##a, weights.val[0], inputs, lane);                                                 \
    ADD_DOT(sum##b, weights.val[1], inputs, lane);                                                 \
    ADD_DOT(sum##c, weights.val[2], inputs, lane);                                                 \
    ADD_DOT(sum##e, weights.val[3], inputs, lane);                                                 \
  } else {                                                                                         \
    ADD(a, lane)                                                                                   \
    ADD(b, lane)                                                                                   \
    ADD(c, lane)                                                                                   \
  }
#define ADD_GROUP(lane)                                                                            \
  ADD_FOUR(0, 1, 2, 3, lane)                                                                       \
  ADD_FOUR(4, 5, 6, 7, lane)                                                                       \
  ADD_FOUR(8, 9, 10, 11, lane)                                                                     \
  ADD_FOUR(12, 13, 14, 15, lane)                                                                   \
  w += 4 * d->padded;
  for (; g + 4 <= d->groups; g += 4) {
    const int8x16_t inputs = vld1q_s8(in + 4 * g);
    ADD_GROUP(0)
    ADD_GROUP(1)
    ADD_GROUP(2)
    ADD_GROUP(3)
  }
  const int rest = d->groups - g;
  const int8x16_t inputs = vld1q_s8(in + 4 * g);
  if (rest > 0) { ADD_GROUP(0) }
  if (rest > 1) { ADD_GROUP(1) }
  if (rest > 2) { ADD_GROUP(2) }
#endif
#define SCALE(b)                                                                                   \
  if (b < blocks)                                                                                  \
    sum##b = scale_four_once(sum##b, vld1q_s32(d->multipliers + k + 4 * b),                        \
                             load_shifts(d->shifts + k + 4 * b));
  EACH_BLOCK(SCALE)
#define STORE(a, b, c, e)                                                                          \
  if (a < blocks)                                                                                  \
    store_bytes(out + k + 4 * a,                                                                   \
                clamp_all(sum##a, sum##b, sum##c, sum##e, d->zero, d->low, d->high),               \
                d->outputs - k - 4 * a < 4 * (blocks - a) ? d->outputs - k - 4 * a                 \
                                                          : 4 * (blocks - a));
  STORE(0, 1, 2, 3)
  STORE(4, 5, 6, 7)
  STORE(8, 9, 10, 11)
  STORE(12, 13, 14, 15)
#undef FOUR_BLOCKS
#undef EACH_BLOCK
#undef START
#undef ADD
#undef ADD_FOUR
#undef ADD_GROUP
#undef SCALE
#undef STORE
}

/* A dense layer, by dot products of four inputs. Lanes are outputs. */
KERNEL void dense(const struct dense *d, const int8_t *in, int8_t *out) {
  int k = 0;
  for (; k + 64 <= d->padded; k += 64)
    dense_outputs(d, in, out, k, 16);
  const int rest = (d->padded - k) / 4;
  if (__builtin_constant_p(rest)) {
    if (rest) dense_outputs(d, in, out, k, rest);
    return;
  }
  if (rest & 8) dense_outputs(d, in, out, k, 8), k += 32;
  if (rest & 4) dense_outputs(d, in, out, k, 4), k += 16;
  if (rest & 2) dense_outputs(d, in, out, k, 2), k += 8;
  if (rest & 1) dense_outputs(d, in, out, k, 1);
}
