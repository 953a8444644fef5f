/* Vectors of sixteen 32-bit integers: AVX-512 with VNNI. */
#include <immintrin.h>
#define OUTPUTS 16
typedef __m512i lanes;

INLINE lanes larger(lanes a, lanes b) { return _mm512_max_epi32(a, b); }

/* The high halves of the 64-bit products of all lanes, each product plus `add`, shifted left. */
INLINE lanes high_products(lanes a, lanes b, lanes add, int left) {
  const lanes even = _mm512_add_epi64(_mm512_mul_epi32(a, b), add);
  const lanes odd = _mm512_add_epi64(
      _mm512_mul_epi32(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(b, 32)), add);
  return _mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32 - left),
                                 _mm512_slli_epi64(odd, left));
}

/* `scale_twice`, plus zero. Signs matter only if negative results are kept. */
INLINE lanes twice_by(lanes sum, lanes multiplier, lanes shift, int32_t zero, int signs) {
  const lanes none = _mm512_setzero_si512(), one = _mm512_set1_epi32(1);
  const lanes left = _mm512_max_epi32(shift, none), right = _mm512_sub_epi32(left, shift);
  const lanes half = _mm512_srli_epi32(_mm512_sllv_epi32(one, right), 1);
  const lanes high = high_products(_mm512_sllv_epi32(sum, left), multiplier,
                                   _mm512_set1_epi64(1 << 30), 1);
  lanes result = _mm512_add_epi32(high, half);
  if (signs)
    result = _mm512_sub_epi32(
        result, _mm512_and_si512(_mm512_srai_epi32(high, 31), _mm512_min_epi32(right, one)));
  return _mm512_add_epi32(_mm512_srav_epi32(result, right), _mm512_set1_epi32(zero));
}

INLINE lanes load_shifts(const int8_t *shifts) {
  return _mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)shifts));
}

INLINE lanes twice(lanes sum, const int32_t *bias, const int32_t *multipliers,
                   const int8_t *shifts, int32_t zero, int signs) {
  return twice_by(_mm512_add_epi32(sum, _mm512_loadu_si512(bias)),
                  _mm512_loadu_si512(multipliers), load_shifts(shifts), zero, signs);
}

/* `scale_once` of sum + bias, plus zero. */
INLINE lanes once(lanes sum, const int32_t *bias, const int32_t *multipliers,
                  const int8_t *shifts, int32_t zero) {
  const lanes none = _mm512_setzero_si512(), one = _mm512_set1_epi32(1);
  const lanes shift = load_shifts(shifts);
  const lanes left = _mm512_max_epi32(_mm512_add_epi32(shift, _mm512_set1_epi32(2)), none);
  const lanes right = _mm512_sub_epi32(left, _mm512_add_epi32(shift, one));
  const lanes half = _mm512_srli_epi32(_mm512_sllv_epi32(one, right), 1);
  sum = _mm512_sllv_epi32(_mm512_add_epi32(sum, _mm512_loadu_si512(bias)), left);
  const lanes high = high_products(sum, _mm512_loadu_si512(multipliers), none, 0);
  return _mm512_add_epi32(_mm512_srav_epi32(_mm512_add_epi32(high, half), right),
                          _mm512_set1_epi32(zero));
}

/* Clamp, and store the first `count` lanes as bytes. */
INLINE void store_bytes(lanes v, int32_t low, int32_t high, int8_t *out, int count) {
  v = _mm512_min_epi32(_mm512_max_epi32(v, _mm512_set1_epi32(low)), _mm512_set1_epi32(high));
  _mm_mask_storeu_epi8(out, (__mmask16)(count < 16 ? (1u << count) - 1 : 0xFFFF),
                       _mm512_cvtepi32_epi8(v));
}

/* Groups of four inputs are unsigned bytes: input - low. VNNI needs no words. */
INLINE int needs_words(int32_t in_low) { return in_low > 127; }

INLINE void gather(const int8_t *from, int count, int32_t low, int words, uint8_t *to) {
  (void)words;
  for (int n = 0; n < count; n += 32)
    _mm256_storeu_si256((void *)(to + n),
                        _mm256_sub_epi8(_mm256_loadu_si256((const void *)(from + n)),
                                        _mm256_set1_epi8((char)low)));
}

/* One group in all lanes. */
INLINE lanes splat(const uint8_t *group, int words) {
  int32_t four;
  (void)words;
  memcpy(&four, group, sizeof four);
  return _mm512_set1_epi32(four);
}

/* Four inputs of a dense layer in all lanes. */
INLINE lanes splat_input(const int8_t *in, int32_t low, int words) {
  int32_t four;
  (void)words;
  memcpy(&four, in, sizeof four);
  return _mm512_sub_epi8(_mm512_set1_epi32(four), _mm512_set1_epi8((char)low));
}

INLINE lanes load_weights(const int8_t *from, int words) {
  (void)words;
  return _mm512_loadu_si512(from);
}

INLINE lanes dot_words(lanes sum, lanes x, lanes w) { return _mm512_dpwssd_epi32(sum, x, w); }

INLINE lanes dot(lanes sum, lanes x, lanes w, int words) {
  (void)words;
  return _mm512_dpbusd_epi32(sum, x, w);
}

INLINE lanes total(lanes a, lanes b) {
  (void)b;
  return a;
}

/* Channels of two rows, as pairs of words. */
INLINE lanes pair(const int8_t *a, const int8_t *b) {
  const __m128i x = _mm_loadu_si128((const void *)a), y = _mm_loadu_si128((const void *)b);
  return _mm512_cvtepi8_epi16(_mm256_set_m128i(_mm_unpackhi_epi8(x, y), _mm_unpacklo_epi8(x, y)));
}
#define SUM_BIAS(layer, words) ((words) ? (layer)->bias : (layer)->unsigned_bias)
#define TWICE(sum, layer, k, words)                                                                \
  twice(sum, SUM_BIAS(layer, words) + (k), (layer)->multipliers + (k), (layer)->shifts + (k),      \
        (layer)->zero, (layer)->low < (layer)->zero)
#define ONCE(sum, layer, k, words)                                                                 \
  once(sum, SUM_BIAS(layer, words) + (k), (layer)->multipliers + (k), (layer)->shifts + (k),       \
       (layer)->zero)

/* For elementwise operators. */
INLINE lanes same(int32_t value) { return _mm512_set1_epi32(value); }
INLINE lanes plus(lanes a, lanes b) { return _mm512_add_epi32(a, b); }
INLINE lanes minus(lanes a, lanes b) { return _mm512_sub_epi32(a, b); }
INLINE lanes load_integers(const int8_t *from, int32_t zero, int left) {
  const lanes v = _mm512_sub_epi32(load_shifts(from), _mm512_set1_epi32(zero));
  return _mm512_sllv_epi32(v, _mm512_set1_epi32(left));
}
INLINE lanes twice_all(lanes sum, int32_t multiplier, int shift) {
  return twice_by(sum, _mm512_set1_epi32(multiplier), _mm512_set1_epi32(shift), 0, 1);
}
