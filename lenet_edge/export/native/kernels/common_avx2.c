/* Vectors of eight 32-bit integers: AVX2, or AVX-VNNI where VNNI is 1. */
#include <immintrin.h>
#define OUTPUTS 8
typedef __m256i lanes;

INLINE lanes larger(lanes a, lanes b) { return _mm256_max_epi32(a, b); }

/* The high halves of the 64-bit products of all lanes, each product plus `add`, shifted left. */
INLINE lanes high_products(lanes a, lanes b, lanes add, int left) {
  const lanes even = _mm256_add_epi64(_mm256_mul_epi32(a, b), add);
  const lanes odd = _mm256_add_epi64(
      _mm256_mul_epi32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32)), add);
  return _mm256_blend_epi32(_mm256_srli_epi64(even, 32 - left), _mm256_slli_epi64(odd, left), 0xAA);
}

/* `scale_twice` of sum + bias, plus zero. Signs matter only if negative results are kept. */
INLINE lanes twice(lanes sum, const int32_t *bias, const int32_t *multipliers,
                   const int8_t *shifts, int32_t zero, int signs) {
  const lanes none = _mm256_setzero_si256(), one = _mm256_set1_epi32(1);
  const lanes shift = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)shifts));
  const lanes left = _mm256_max_epi32(shift, none), right = _mm256_sub_epi32(left, shift);
  const lanes half = _mm256_srli_epi32(_mm256_sllv_epi32(one, right), 1);
  sum = _mm256_add_epi32(sum, _mm256_loadu_si256((const void *)bias));
  const lanes high = high_products(_mm256_sllv_epi32(sum, left),
                                   _mm256_loadu_si256((const void *)multipliers),
                                   _mm256_set1_epi64x(1 << 30), 1);
  lanes result = _mm256_add_epi32(high, half);
  if (signs)
    result = _mm256_add_epi32(result, _mm256_and_si256(_mm256_srai_epi32(high, 31),
                                                       _mm256_cmpgt_epi32(right, none)));
  return _mm256_add_epi32(_mm256_srav_epi32(result, right), _mm256_set1_epi32(zero));
}

/* `scale_once` of sum + bias, plus zero. */
INLINE lanes once(lanes sum, const int32_t *bias, const int32_t *multipliers,
                  const int8_t *shifts, int32_t zero) {
  const lanes none = _mm256_setzero_si256(), one = _mm256_set1_epi32(1);
  const lanes shift = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)shifts));
  const lanes left = _mm256_max_epi32(_mm256_add_epi32(shift, _mm256_set1_epi32(2)), none);
  const lanes right = _mm256_sub_epi32(left, _mm256_add_epi32(shift, one));
  const lanes half = _mm256_srli_epi32(_mm256_sllv_epi32(one, right), 1);
  sum = _mm256_add_epi32(sum, _mm256_loadu_si256((const void *)bias));
  const lanes high = high_products(_mm256_sllv_epi32(sum, left),
                                   _mm256_loadu_si256((const void *)multipliers), none, 0);
  return _mm256_add_epi32(_mm256_srav_epi32(_mm256_add_epi32(high, half), right),
                          _mm256_set1_epi32(zero));
}

/* Clamp, and store the first `count` lanes as bytes. */
INLINE void store_bytes(lanes v, int32_t low, int32_t high, int8_t *out, int count) {
  v = _mm256_min_epi32(_mm256_max_epi32(v, _mm256_set1_epi32(low)), _mm256_set1_epi32(high));
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  const int64_t bytes = _mm_cvtsi128_si64(_mm_packs_epi16(words, words));
  if (count >= OUTPUTS)
    memcpy(out, &bytes, OUTPUTS);
  else
    for (int n = 0; n < count; n++)
      out[n] = (int8_t)(bytes >> 8 * n);
}

/* Groups of four inputs as unsigned bytes, input - low. Without VNNI, pairs of products must fit
 * 16 bits: they do if no input is above 127. Other inputs are widened: words.
 */
INLINE int needs_words(int32_t in_low) { return !VNNI && in_low < 0; }

INLINE void gather(const int8_t *from, int count, int32_t low, int words, uint8_t *to) {
  if (words)
    for (int n = 0; n < count; n += 16)
      _mm256_storeu_si256((void *)(to + 2 * n),
                          _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)(from + n))));
  else
    for (int n = 0; n < count; n += 32)
      _mm256_storeu_si256((void *)(to + n),
                          _mm256_sub_epi8(_mm256_loadu_si256((const void *)(from + n)),
                                          _mm256_set1_epi8((char)low)));
}

/* One group in all lanes. */
INLINE lanes splat(const uint8_t *group, int words) {
  if (words)
    return _mm256_broadcastq_epi64(_mm_loadl_epi64((const void *)group));
  int32_t four;
  memcpy(&four, group, sizeof four);
  return _mm256_set1_epi32(four);
}

/* The weights of eight outputs; of four in words. */
INLINE lanes load_weights(const int8_t *from, int words) {
  return words ? _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)from))
               : _mm256_loadu_si256((const void *)from);
}

/* The empty assembler text keeps GCC from regrouping the sums, which would spill them. */
INLINE lanes dot_words(lanes sum, lanes x, lanes w) {
#if VNNI
  sum = _mm256_dpwssd_avx_epi32(sum, x, w);
#else
  sum = _mm256_add_epi32(sum, _mm256_madd_epi16(x, w));
#endif
  __asm__("" : "+x"(sum));
  return sum;
}

INLINE lanes dot(lanes sum, lanes x, lanes w, int words) {
  if (words)
    return dot_words(sum, x, w);
#if VNNI
  return _mm256_dpbusd_avx_epi32(sum, x, w);
#else
  return dot_words(sum, _mm256_maddubs_epi16(x, w), _mm256_set1_epi16(1));
#endif
}

/* Two sums of each output become one. */
INLINE lanes total(lanes a, lanes b) {
  return _mm256_permute4x64_epi64(_mm256_hadd_epi32(a, b), 0xD8);
}

/* Channels of two rows, as pairs of words. */
INLINE lanes pair(const int8_t *a, const int8_t *b) {
  return _mm256_cvtepi8_epi16(
      _mm_unpacklo_epi8(_mm_loadl_epi64((const void *)a), _mm_loadl_epi64((const void *)b)));
}

/* Four inputs of a dense layer in all lanes. */
INLINE lanes splat_input(const int8_t *in, int32_t low, int words) {
  int32_t four;
  memcpy(&four, in, sizeof four);
  return words ? _mm256_cvtepi8_epi16(_mm_set1_epi32(four))
               : _mm256_sub_epi8(_mm256_set1_epi32(four), _mm256_set1_epi8((char)low));
}
#define SUM_BIAS(layer, words) ((words) ? (layer)->bias : (layer)->unsigned_bias)
#define TWICE(sum, layer, k, words)                                                                \
  twice(sum, SUM_BIAS(layer, words) + (k), (layer)->multipliers + (k), (layer)->shifts + (k),      \
        (layer)->zero, (layer)->low < (layer)->zero)
#define ONCE(sum, layer, k, words)                                                                 \
  once(sum, SUM_BIAS(layer, words) + (k), (layer)->multipliers + (k), (layer)->shifts + (k),       \
       (layer)->zero)

/* For images of one channel: a pair of weights in all lanes; pairs that begin one later. */
INLINE lanes splat_pair(const int16_t *pair) {
  int32_t two;
  memcpy(&two, pair, sizeof two);
  return _mm256_set1_epi32(two);
}
INLINE lanes one_later(lanes weights) { return _mm256_slli_epi64(weights, 16); }
INLINE void store_lanes(void *to, lanes v) { _mm256_store_si256(to, v); }

/* Columns of eight integers become rows. */
INLINE void turn(int32_t from[OUTPUTS][OUTPUTS], lanes to[OUTPUTS]) {
  lanes r[8], s[8];
  UNROLL(8)
  for (int n = 0; n < 8; n++)
    r[n] = _mm256_load_si256((const void *)from[n]);
  UNROLL(4)
  for (int n = 0; n < 4; n++) {
    s[2 * n] = _mm256_unpacklo_epi32(r[2 * n], r[2 * n + 1]);
    s[2 * n + 1] = _mm256_unpackhi_epi32(r[2 * n], r[2 * n + 1]);
  }
  UNROLL(2)
  for (int n = 0; n < 2; n++) {
    r[4 * n] = _mm256_unpacklo_epi64(s[4 * n], s[4 * n + 2]);
    r[4 * n + 1] = _mm256_unpackhi_epi64(s[4 * n], s[4 * n + 2]);
    r[4 * n + 2] = _mm256_unpacklo_epi64(s[4 * n + 1], s[4 * n + 3]);
    r[4 * n + 3] = _mm256_unpackhi_epi64(s[4 * n + 1], s[4 * n + 3]);
  }
  UNROLL(4)
  for (int n = 0; n < 4; n++) {
    to[n] = _mm256_permute2x128_si256(r[n], r[4 + n], 0x20);
    to[4 + n] = _mm256_permute2x128_si256(r[n], r[4 + n], 0x31);
  }
}

/* For elementwise operators. */
INLINE lanes same(int32_t value) { return _mm256_set1_epi32(value); }
INLINE lanes plus(lanes a, lanes b) { return _mm256_add_epi32(a, b); }
INLINE lanes minus(lanes a, lanes b) { return _mm256_sub_epi32(a, b); }
INLINE lanes load_integers(const int8_t *from, int32_t zero, int left) {
  const lanes v = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)from));
  return _mm256_slli_epi32(_mm256_sub_epi32(v, _mm256_set1_epi32(zero)), left);
}

/* `scale_twice` by the same numbers in all lanes. */
INLINE lanes twice_all(lanes sum, int32_t multiplier, int shift) {
  const int left = shift > 0 ? shift : 0, right = left - shift;
  const lanes high = high_products(_mm256_sll_epi32(sum, _mm_cvtsi32_si128(left)),
                                   _mm256_set1_epi32(multiplier), _mm256_set1_epi64x(1 << 30), 1);
  if (right == 0)
    return high;
  const lanes near = _mm256_add_epi32(high, _mm256_set1_epi32((int32_t)((1u << right) >> 1)));
  return _mm256_sra_epi32(_mm256_add_epi32(near, _mm256_srai_epi32(high, 31)),
                          _mm_cvtsi32_si128(right));
}
