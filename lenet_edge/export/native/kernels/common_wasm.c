/* Vectors of four 32-bit integers. Inputs are widened to words: i32x4.dot_i16x8 is exact. */
#include <wasm_simd128.h>
#define OUTPUTS 4
typedef v128_t lanes;

INLINE lanes larger(lanes a, lanes b) { return wasm_i32x4_max(a, b); }

/* `scale_twice` or `scale_once` of sum + bias, plus zero: lane by lane. */
INLINE lanes scale_lanes(lanes sum, const int32_t *bias, const int32_t *multipliers,
                         const int8_t *shifts, int32_t zero, int rounds_once) {
  int32_t v[4];
  wasm_v128_store(v, wasm_i32x4_add(sum, wasm_v128_load(bias)));
#define SCALE(n)                                                                                   \
  v[n] = (rounds_once ? scale_once(v[n], multipliers[n], shifts[n])                                \
                      : scale_twice(v[n], multipliers[n], shifts[n])) +                            \
         zero;
  FOUR(SCALE)
#undef SCALE
  return wasm_v128_load(v);
}

/* The same, where factors let all lanes have the same shift: half * factor is the first rounding. */
INLINE lanes scale_lifted(lanes sum, const int32_t *bias, const int32_t *multipliers,
                          const int32_t *lifts, int shift, int32_t zero, int rounds_once) {
  const lanes lift = wasm_v128_load(lifts), multiplier = wasm_v128_load(multipliers);
  const lanes lifted = wasm_i32x4_mul(wasm_i32x4_add(sum, wasm_v128_load(bias)), lift);
  lanes low = wasm_i64x2_extmul_low_i32x4(lifted, multiplier);
  lanes high = wasm_i64x2_extmul_high_i32x4(lifted, multiplier);
  if (!rounds_once) {
    low = wasm_i64x2_add(low, wasm_i64x2_shl(wasm_i64x2_extend_low_i32x4(lift), 30));
    high = wasm_i64x2_add(high, wasm_i64x2_shl(wasm_i64x2_extend_high_i32x4(lift), 30));
  }
  const lanes top = wasm_i32x4_shuffle(low, high, 1, 3, 5, 7);
  const lanes near = wasm_i32x4_add(top, wasm_i32x4_splat(1 << (shift - 2)));
  return wasm_i32x4_add(wasm_i32x4_shr(near, (uint32_t)shift - 1), wasm_i32x4_splat(zero));
}
#define SCALE_BY(sum, layer, k, rounds_once)                                                       \
  ((layer)->lifts ? scale_lifted(sum, (layer)->bias + (k), (layer)->multipliers + (k),             \
                                 (layer)->lifts + (k), (layer)->shift, (layer)->zero, rounds_once) \
                  : scale_lanes(sum, (layer)->bias + (k), (layer)->multipliers + (k),              \
                                (layer)->shifts + (k), (layer)->zero, rounds_once))
#define TWICE(sum, layer, k, words) SCALE_BY(sum, layer, k, 0)
#define ONCE(sum, layer, k, words) SCALE_BY(sum, layer, k, 1)

/* Clamp, and store the first `count` lanes as bytes. */
INLINE void store_bytes(lanes v, int32_t low, int32_t high, int8_t *out, int count) {
  v = wasm_i32x4_min(wasm_i32x4_max(v, wasm_i32x4_splat(low)), wasm_i32x4_splat(high));
  v = wasm_i16x8_narrow_i32x4(v, v);
  const int32_t bytes = wasm_i32x4_extract_lane(wasm_i8x16_narrow_i16x8(v, v), 0);
  if (count >= OUTPUTS)
    memcpy(out, &bytes, OUTPUTS);
  else
    for (int n = 0; n < count; n++)
      out[n] = (int8_t)(bytes >> 8 * n);
}

INLINE int needs_words(int32_t in_low) {
  (void)in_low;
  return 1;
}

INLINE void gather(const int8_t *from, int count, int32_t low, int words, uint8_t *to) {
  (void)low, (void)words;
  for (int n = 0; n < count; n += 8)
    wasm_v128_store(to + 2 * n, wasm_i16x8_load8x8(from + n));
}

/* One group in all lanes. */
INLINE lanes splat(const uint8_t *group, int words) {
  (void)words;
  return wasm_v128_load64_splat(group);
}

INLINE lanes splat_input(const int8_t *in, int32_t low, int words) {
  (void)low, (void)words;
  return wasm_i16x8_extend_low_i8x16(wasm_v128_load32_splat(in));
}

/* The weights of two outputs. */
INLINE lanes load_weights(const int8_t *from, int words) {
  (void)words;
  return wasm_i16x8_load8x8(from);
}

INLINE lanes dot_words(lanes sum, lanes x, lanes w) {
  return wasm_i32x4_add(sum, wasm_i32x4_dot_i16x8(x, w));
}

INLINE lanes dot(lanes sum, lanes x, lanes w, int words) {
  (void)words;
  return dot_words(sum, x, w);
}

/* Two sums of each output become one. */
INLINE lanes total(lanes a, lanes b) {
  return wasm_i32x4_add(wasm_i32x4_shuffle(a, b, 0, 2, 4, 6), wasm_i32x4_shuffle(a, b, 1, 3, 5, 7));
}

/* Channels of two rows, as pairs of words. */
INLINE lanes pair(const int8_t *a, const int8_t *b) {
  return wasm_i16x8_extend_low_i8x16(
      wasm_i8x16_shuffle(wasm_v128_load32_zero(a), wasm_v128_load32_zero(b), 0, 16, 1, 17, 2, 18,
                         3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
}

/* For images of one channel: a pair of weights in all lanes; pairs that begin one later. */
INLINE lanes splat_pair(const int16_t *pair) { return wasm_v128_load32_splat(pair); }
INLINE lanes one_later(lanes weights) { return wasm_i64x2_shl(weights, 16); }
INLINE void store_lanes(void *to, lanes v) { wasm_v128_store(to, v); }

/* Columns of four integers become rows. */
INLINE void turn(int32_t from[OUTPUTS][OUTPUTS], lanes to[OUTPUTS]) {
  const lanes a = wasm_v128_load(from[0]), b = wasm_v128_load(from[1]);
  const lanes c = wasm_v128_load(from[2]), d = wasm_v128_load(from[3]);
  const lanes ab = wasm_i32x4_shuffle(a, b, 0, 4, 1, 5), cd = wasm_i32x4_shuffle(c, d, 0, 4, 1, 5);
  const lanes AB = wasm_i32x4_shuffle(a, b, 2, 6, 3, 7), CD = wasm_i32x4_shuffle(c, d, 2, 6, 3, 7);
  to[0] = wasm_i64x2_shuffle(ab, cd, 0, 2);
  to[1] = wasm_i64x2_shuffle(ab, cd, 1, 3);
  to[2] = wasm_i64x2_shuffle(AB, CD, 0, 2);
  to[3] = wasm_i64x2_shuffle(AB, CD, 1, 3);
}

/* For elementwise operators. */
INLINE lanes same(int32_t value) { return wasm_i32x4_splat(value); }
INLINE lanes plus(lanes a, lanes b) { return wasm_i32x4_add(a, b); }
INLINE lanes minus(lanes a, lanes b) { return wasm_i32x4_sub(a, b); }
INLINE lanes load_integers(const int8_t *from, int32_t zero, int left) {
  const lanes v = wasm_i32x4_extend_low_i16x8(wasm_i16x8_extend_low_i8x16(wasm_v128_load32_zero(from)));
  return wasm_i32x4_shl(wasm_i32x4_sub(v, wasm_i32x4_splat(zero)), (uint32_t)left);
}

/* `scale_twice` by the same numbers in all lanes. */
INLINE lanes twice_all(lanes sum, int32_t multiplier, int shift) {
  const int left = shift > 0 ? shift : 0, right = left - shift;
  const lanes shifted = wasm_i32x4_shl(sum, (uint32_t)left), by = wasm_i32x4_splat(multiplier);
  const lanes half = wasm_i64x2_splat(1 << 30);
  const lanes low = wasm_i64x2_shr(wasm_i64x2_add(wasm_i64x2_extmul_low_i32x4(shifted, by), half), 31);
  const lanes top = wasm_i64x2_shr(wasm_i64x2_add(wasm_i64x2_extmul_high_i32x4(shifted, by), half), 31);
  const lanes high = wasm_i32x4_shuffle(low, top, 0, 2, 4, 6);
  if (right == 0)
    return high;
  const lanes near = wasm_i32x4_add(high, wasm_i32x4_splat((int32_t)((1u << right) >> 1)));
  return wasm_i32x4_shr(wasm_i32x4_add(near, wasm_i32x4_shr(high, 31)), (uint32_t)right);
}
