/* Neural network probe, float32, as one C file that needs no library.
 *
 * Made by lenet-edge; do not edit. Build it with: cc -O3 -ffp-contract=fast -c
 * It keeps nothing between calls, and needs 128 bytes of stack.
 *
 * Checkpoint: sha256 0cf786e9b01f9ec26f0d800565bde8ade1c3e28046ed21b782ef6ae273478e30.
 * Labels: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9.
 * A pixel p of 0 to 255 goes in as p * 0.00392156863.
 *
 * lenet_edge: {"manifest_version":1,"layout":"NHWC","precision":"float32","batch_size":null,"inputs":[{"name":"image","shape":[null,4,4,1],"dtype":"float32","scale":null,"zero_point":null}],"outputs":[{"name":"logits","shape":[null,10],"dtype":"float32","scale":null,"zero_point":null}],"parent_sha256":"0cf786e9b01f9ec26f0d800565bde8ade1c3e28046ed21b782ef6ae273478e30","converter":"lenet-edge 0.1.0 native","calibration":null,"labels":["0","1","2","3","4","5","6","7","8","9"],"pixel_scale":0.00392156862745098,"settings":[]}
 */

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* One text for every instruction set: vectors of LANES floats, by an extension of GCC and Clang.
 * Any other compiler, or PLAIN_C, makes do with one lane and plain C11.
 */
#if !defined(__GNUC__) || defined(PLAIN_C)
#define LANES 1
#define INLINE static inline
#else
#define INLINE static inline __attribute__((always_inline))
#if defined(__SSE2__) || defined(__ARM_NEON) || defined(__wasm_simd128__)
#define LANES 4
#else
#define LANES 1
#endif
#if defined(__x86_64__) || defined(__i386__)
#define CHOOSE_AT_RUN_TIME 1
#endif
#endif

#if defined(__clang__) || !defined(__GNUC__) || __GNUC__ < 8
#define UNROLL(n) /* they do it by themselves */
#else
#define PRAGMA(text) _Pragma(#text)
#define UNROLL(n) PRAGMA(GCC unroll n)
#endif
#if defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 12)
#define CAN_SHUFFLE 1
#else
#define CAN_SHUFFLE 0
#endif

/* Variables by name, and not arrays of them, are what every compiler keeps in registers. */
#define FOUR(DO) DO(0) DO(1) DO(2) DO(3)
#define FIVE(DO) FOUR(DO) DO(4)
#define EIGHT(DO) FIVE(DO) DO(5) DO(6) DO(7)

void probe(const float image[16], float logits[10]);
void probe_batch(const float *images, float *logits, size_t count);

/* logits: 16 x 10 weights */
static _Alignas(64) const float dense0_weights[256] = {
  1.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f,
  0.0f, 1.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f,
  0.0f, 0.0f, 1.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f,
  0.0f, 0.0f, 0.0f, 1.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f,
  0.0f, 0.0f, 0.0f, 0.0f, 1.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f,
  0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 1.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f,
  0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 1.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f,
  0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 1.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f,
  0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 1.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f,
  0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 1.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f,
  1.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f,
  0.0f, 1.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f,
  0.0f, 0.0f, 1.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f,
  0.0f, 0.0f, 0.0f, 1.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f,
  0.0f, 0.0f, 0.0f, 0.0f, 1.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f,
  0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 1.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f,
};

static _Alignas(64) const float dense0_bias[16] = {
  0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f,
};

#ifdef CHOOSE_AT_RUN_TIME

/* ---- avx512: the text below, for 16 lanes ---- */

#define INLINE_AVX512 INLINE __attribute__((target("avx512f")))
#define static_AVX512 static __attribute__((target("avx512f")))

typedef float vec_avx512 __attribute__((vector_size(4 * 16)));
typedef float loose_avx512 __attribute__((vector_size(4 * 16), aligned(4), may_alias));
typedef int32_t mask_avx512 __attribute__((vector_size(4 * 16)));

INLINE_AVX512 vec_avx512 load_avx512(const float *from) { return *(const loose_avx512 *)from; }
INLINE_AVX512 void store_avx512(float *to, vec_avx512 value) { *(loose_avx512 *)to = value; }
INLINE_AVX512 vec_avx512 larger_avx512(vec_avx512 a, vec_avx512 b) {
  const mask_avx512 of_a = a > b;
  return (vec_avx512)(((mask_avx512)a & of_a) | ((mask_avx512)b & ~of_a));
}

INLINE_AVX512 int find_nonzero_avx512(const float *in, int count, int *places) {
  int found = 0;
  for (int n = 0; n < count; n++) {
    places[found] = n;
    found += in[n] != 0;
  }
  return found;
}

INLINE_AVX512 void dense_block_avx512(const float *in, const int *places, int found, const float *weights,
                        int padded, int blocks, const float *scales, const float *bias, int relu,
                        float *out) {
#define START(b) vec_avx512 sum##b = {0};
  EIGHT(START)
  for (int n = 0; n < found; n++) {
    const float *w = weights + places[n] * padded;
    const float value = in[places[n]];
#define MULTIPLY(b)                                                                                \
  if (b < blocks) sum##b += value * load_avx512(w + b * 16);
    EIGHT(MULTIPLY)
  }
#define FINISH(b)                                                                                  \
  if (b < blocks) {                                                                                \
    if (scales) sum##b *= load_avx512(scales + b * 16);                                                \
    sum##b += load_avx512(bias + b * 16);                                                              \
    store_avx512(out + b * 16, relu ? larger_avx512(sum##b, (vec_avx512){0}) : sum##b);                              \
  }
  EIGHT(FINISH)
#undef START
#undef MULTIPLY
#undef FINISH
}

INLINE_AVX512 void dense_avx512(const float *in, int count, const float *weights, const float *scales,
                  const float *bias, int padded, int relu, int *places, float *out) {
  const int found = find_nonzero_avx512(in, count, places), whole = padded / (8 * 16) * (8 * 16);
  for (int k = 0; k < whole; k += 8 * 16)
    dense_block_avx512(in, places, found, weights + k, padded, 8, scales ? scales + k : scales, bias + k, relu,
                out + k);
  if (whole < padded)
    dense_block_avx512(in, places, found, weights + whole, padded, (padded - whole) / 16,
                scales ? scales + whole : scales, bias + whole, relu, out + whole);
}

static_AVX512 void run_avx512(const float *image, float *logits) {
  int places[16];
  _Alignas(64) float after0[16];

  dense_avx512(image, 16, dense0_weights, NULL, dense0_bias, 16, 0, places, after0);
  memcpy(logits, after0, 10 * sizeof *logits);
}

/* ---- avx2: the text below, for 8 lanes ---- */

#define INLINE_AVX2 INLINE __attribute__((target("avx2,fma")))
#define static_AVX2 static __attribute__((target("avx2,fma")))

typedef float vec_avx2 __attribute__((vector_size(4 * 8)));
typedef float loose_avx2 __attribute__((vector_size(4 * 8), aligned(4), may_alias));
typedef int32_t mask_avx2 __attribute__((vector_size(4 * 8)));

INLINE_AVX2 vec_avx2 load_avx2(const float *from) { return *(const loose_avx2 *)from; }
INLINE_AVX2 void store_avx2(float *to, vec_avx2 value) { *(loose_avx2 *)to = value; }
INLINE_AVX2 vec_avx2 larger_avx2(vec_avx2 a, vec_avx2 b) {
  const mask_avx2 of_a = a > b;
  return (vec_avx2)(((mask_avx2)a & of_a) | ((mask_avx2)b & ~of_a));
}

INLINE_AVX2 int find_nonzero_avx2(const float *in, int count, int *places) {
  int found = 0;
  for (int n = 0; n < count; n++) {
    places[found] = n;
    found += in[n] != 0;
  }
  return found;
}

INLINE_AVX2 void dense_block_avx2(const float *in, const int *places, int found, const float *weights,
                        int padded, int blocks, const float *scales, const float *bias, int relu,
                        float *out) {
#define START(b) vec_avx2 sum##b = {0};
  EIGHT(START)
  for (int n = 0; n < found; n++) {
    const float *w = weights + places[n] * padded;
    const float value = in[places[n]];
#define MULTIPLY(b)                                                                                \
  if (b < blocks) sum##b += value * load_avx2(w + b * 8);
    EIGHT(MULTIPLY)
  }
#define FINISH(b)                                                                                  \
  if (b < blocks) {                                                                                \
    if (scales) sum##b *= load_avx2(scales + b * 8);                                                \
    sum##b += load_avx2(bias + b * 8);                                                              \
    store_avx2(out + b * 8, relu ? larger_avx2(sum##b, (vec_avx2){0}) : sum##b);                              \
  }
  EIGHT(FINISH)
#undef START
#undef MULTIPLY
#undef FINISH
}

INLINE_AVX2 void dense_avx2(const float *in, int count, const float *weights, const float *scales,
                  const float *bias, int padded, int relu, int *places, float *out) {
  const int found = find_nonzero_avx2(in, count, places), whole = padded / (8 * 8) * (8 * 8);
  for (int k = 0; k < whole; k += 8 * 8)
    dense_block_avx2(in, places, found, weights + k, padded, 8, scales ? scales + k : scales, bias + k, relu,
                out + k);
  if (whole < padded)
    dense_block_avx2(in, places, found, weights + whole, padded, (padded - whole) / 8,
                scales ? scales + whole : scales, bias + whole, relu, out + whole);
}

static_AVX2 void run_avx2(const float *image, float *logits) {
  int places[16];
  _Alignas(64) float after0[16];

  dense_avx2(image, 16, dense0_weights, NULL, dense0_bias, 16, 0, places, after0);
  memcpy(logits, after0, 10 * sizeof *logits);
}

#endif

#if LANES > 1
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef float loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t mask __attribute__((vector_size(4 * LANES)));

INLINE vec load(const float *from) { return *(const loose *)from; }
INLINE void store(float *to, vec value) { *(loose *)to = value; }
INLINE vec larger(vec a, vec b) {
  const mask of_a = a > b;
  return (vec)(((mask)a & of_a) | ((mask)b & ~of_a));
}
#else
typedef float vec;

INLINE vec load(const float *from) { return *from; }
INLINE void store(float *to, vec value) { *to = value; }
INLINE vec larger(vec a, vec b) { return a > b ? a : b; }
#endif

/* The places of what is not zero: after a ReLU, a zero spares a whole row of weights. */
INLINE int find_nonzero(const float *in, int count, int *places) {
  int found = 0;
  for (int n = 0; n < count; n++) {
    places[found] = n;
    found += in[n] != 0;
  }
  return found;
}

/* `blocks` vectors of outputs, one input after the other. weights[input][output]. */
INLINE void dense_block(const float *in, const int *places, int found, const float *weights,
                        int padded, int blocks, const float *scales, const float *bias, int relu,
                        float *out) {
#define START(b) vec sum##b = {0};
  EIGHT(START)
  for (int n = 0; n < found; n++) {
    const float *w = weights + places[n] * padded;
    const float value = in[places[n]];
#define MULTIPLY(b)                                                                                \
  if (b < blocks) sum##b += value * load(w + b * LANES);
    EIGHT(MULTIPLY)
  }
#define FINISH(b)                                                                                  \
  if (b < blocks) {                                                                                \
    if (scales) sum##b *= load(scales + b * LANES);                                                \
    sum##b += load(bias + b * LANES);                                                              \
    store(out + b * LANES, relu ? larger(sum##b, (vec){0}) : sum##b);                              \
  }
  EIGHT(FINISH)
#undef START
#undef MULTIPLY
#undef FINISH
}

/* A dense layer. Lanes are outputs, padded to `padded`. */
INLINE void dense(const float *in, int count, const float *weights, const float *scales,
                  const float *bias, int padded, int relu, int *places, float *out) {
  const int found = find_nonzero(in, count, places), whole = padded / (8 * LANES) * (8 * LANES);
  for (int k = 0; k < whole; k += 8 * LANES)
    dense_block(in, places, found, weights + k, padded, 8, scales ? scales + k : scales, bias + k, relu,
                out + k);
  if (whole < padded)
    dense_block(in, places, found, weights + whole, padded, (padded - whole) / LANES,
                scales ? scales + whole : scales, bias + whole, relu, out + whole);
}

static void run(const float *image, float *logits) {
  int places[16];
  _Alignas(64) float after0[16];

  dense(image, 16, dense0_weights, NULL, dense0_bias, 16, 0, places, after0);
  memcpy(logits, after0, 10 * sizeof *logits);
}

typedef void network(const float *image, float *logits);

static network *best_here(void) {
#ifdef CHOOSE_AT_RUN_TIME
  if (__builtin_cpu_supports("avx512f"))
    return run_avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return run_avx2;
#endif
  return run;
}

void probe(const float image[16], float logits[10]) {
  best_here()(image, logits);
}

void probe_batch(const float *images, float *logits, size_t count) {
  network *const best = best_here();
  for (size_t n = 0; n < count; n++)
    best(images + 16 * n, logits + 10 * n);
}
