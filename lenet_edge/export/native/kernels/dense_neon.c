/* `blocks` vectors of four outputs, from output `k` on. The products of two groups fit 16 bits. */
INLINE void dense_outputs(const struct dense *d, const int8_t *in, int8_t *out, int k, int blocks) {
#define EACH_BLOCK(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)
#define START(b) int32x4_t low##b = vdupq_n_s32(0), high##b = low##b;
  EACH_BLOCK(START)
  const int8_t *w = d->weights + 4 * k;
  const int line = 4 * d->padded;
  int g = 0;
#ifdef INT4
  for (; g + 2 <= d->groups; g += 2, w += line) {
    const int8x16x2_t two = load_groups(in + 4 * g);
#define ADD(b)                                                                                     \
  if (b < blocks) {                                                                                \
    const int8x16_t both = vld1q_s8(w + 16 * b);                                                   \
    const int8x16_t first = vshlq_n_s8(both, 4), second = vandq_s8(both, vdupq_n_s8(-16));         \
#else
  for (; g + 2 <= d->groups; g += 2, w += 2 * line) {
    const int8x16x2_t two = load_groups(in + 4 * g);
#define ADD(b)                                                                                     \
  if (b < blocks) {                                                                                \
    const int8x16_t first = vld1q_s8(w + 16 * b), second = vld1q_s8(w + line + 16 * b);            \
#endif
    const int16x8_t low = vmlal_s8(vmull_s8(vget_low_s8(first), vget_low_s8(two.val[0])),          \
                                   vget_low_s8(second), vget_low_s8(two.val[1]));                  \
    low##b = vpadalq_s16(low##b, low);                                                             \
    high##b = vpadalq_s16(high##b, vmlal_high_s8(vmull_high_s8(first, two.val[0]), second,         \
                                                 two.val[1]));                                     \
  }
    ADD(0)
    ADD(1)
    LOAD_LATER;
    ADD(2)
    ADD(3)
    LOAD_LATER;
    ADD(4)
    ADD(5)
    LOAD_LATER;
    ADD(6)
    ADD(7)
  }
  if (g < d->groups) {
    const int8x16_t one = load_group(in + 4 * g);
#define ADD_LAST(b)                                                                                \
  if (b < blocks) {                                                                                \
#ifdef INT4
    const int8x16_t last = vshlq_n_s8(vld1q_s8(w + 16 * b), 4);                                    \
#else
    const int8x16_t last = vld1q_s8(w + 16 * b);                                                   \
#endif
    low##b = vpadalq_s16(low##b, vmull_s8(vget_low_s8(last), vget_low_s8(one)));                   \
    high##b = vpadalq_s16(high##b, vmull_high_s8(last, one));                                      \
  }
    EACH_BLOCK(ADD_LAST)
  }
#define SCALE(b)                                                                                   \
  if (b < blocks) {                                                                                \
    const int32x4_t sum = vaddq_s32(vpaddq_s32(low##b, high##b), vld1q_s32(d->bias + k + 4 * b));  \
    low##b = scale_four_once(sum, vld1q_s32(d->multipliers + k + 4 * b),                           \
                             load_shifts(d->shifts + k + 4 * b));                                  \
  }
  EACH_BLOCK(SCALE)
#define STORE(a, b)                                                                                \
  if (a < blocks) {                                                                                \
    const int count = a + 1 < blocks ? 8 : 4, rest = d->outputs - k - 4 * a;                       \
    store_bytes(out + k + 4 * a, clamp_eight(low##a, low##b, d->zero, d->low, d->high),            \
                rest < count ? rest : count);                                                      \
  }
  STORE(0, 1)
  STORE(2, 3)
  STORE(4, 5)
  STORE(6, 7)
#undef EACH_BLOCK
#undef START
#undef ADD
#undef ADD_LAST
#undef SCALE
#undef STORE
}

/* A dense layer. Lanes are outputs. */
KERNEL void dense(const struct dense *d, const int8_t *in, int8_t *out) {
  int k = 0;
  for (; k + 32 <= d->padded; k += 32)
    dense_outputs(d, in, out, k, 8);
  const int rest = (d->padded - k) / 4;
  if (__builtin_constant_p(rest)) {
    if (rest) dense_outputs(d, in, out, k, rest);
    return;
  }
  if (rest & 4) dense_outputs(d, in, out, k, 4), k += 16;
  if (rest & 2) dense_outputs(d, in, out, k, 2), k += 8;
  if (rest & 1) dense_outputs(d, in, out, k, 1);
}
