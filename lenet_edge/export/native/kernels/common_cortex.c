/* Cortex-M. Convolutions read their input from a window: the groups of four positions, in the
 * layout that suits the core. All filters use the window.
 */
#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1)
#include <arm_mve.h>
#define USE_MVE 1 /* Cortex-M55: dot products of 16 bytes */
#elif defined(__ARM_FEATURE_DSP)
#define USE_DSP 1 /* Cortex-M4, M7, M33: SMLAD adds two products of 16 bits */
#endif
#ifdef __clang__
#define ROLLED _Pragma("nounroll")
#else
#define ROLLED _Pragma("GCC unroll 1") /* unrolled loops are long, and take more registers */
#endif
#if defined(__OPTIMIZE__) && !defined(__clang__)
#pragma GCC optimize("O3") /* copies of the kernels with the constants of each layer */
#endif
/* Each kernel has all registers for itself. */
#undef KERNEL
#define KERNEL static __attribute__((noinline))

enum {
  WINDOW_GROUPS = 16, /* groups of inputs in a window */
  BLOCK_FILTERS = 16, /* filters whose sums are kept */
};
#if !USE_MVE && !USE_DSP && __ARM_ARCH_ISA_THUMB >= 2
#define FILTERS 2
#else
#define FILTERS 1
#endif
#define FILTERS_AT_ONCE FILTERS

#if USE_MVE
struct window {
  _Alignas(16) int8_t bytes[4][4 * WINDOW_GROUPS];
};
#elif USE_DSP
struct window {
  _Alignas(8) uint32_t pairs[WINDOW_GROUPS][4][2];
};

INLINE uint32_t load_four(const int8_t *bytes) {
  uint32_t four;
  memcpy(&four, bytes, sizeof four);
  return four;
}

/* Return bytes 0 and 2 as 16 bits each; `odd_bytes` returns bytes 1 and 3. */
INLINE uint32_t even_bytes(uint32_t four) {
  uint32_t pair;
  __asm__("sxtb16 %0, %1" : "=r"(pair) : "r"(four));
  return pair;
}

INLINE uint32_t odd_bytes(uint32_t four) {
  uint32_t pair;
  __asm__("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(four));
  return pair;
}

INLINE uint32_t subtract_pairs(uint32_t a, uint32_t b) {
  uint32_t pair;
  __asm__("ssub16 %0, %1, %2" : "=r"(pair) : "r"(a), "r"(b));
  return pair;
}
#else
struct window {
  int8_t bytes[WINDOW_GROUPS][4][4];
};
#endif

INLINE int32_t larger(int32_t a, int32_t b) {
  return a > b ? a : b;
}
