#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The integer arithmetic of TensorFlow Lite's reference kernels, to the bit: a real number is
 * scale * (integer - zero point), and a sum goes to the scale of the output by a multiplier of
 * 31 bits and a shift to the left (to the right where it is negative).
 * Dense layers round once, as TensorFlow Lite does; CMSIS-NN and TensorFlow Lite Micro round twice.
 *
 * All tensors have the order height, width, channels. The zero point of an input is part of the
 * bias. An input that a convolution pads has a border of its zero point, so that kernels never
 * leave the image. Rows of a tensor are `line` bytes apart, columns `step` bytes.
 */
#if !defined(__GNUC__) || defined(PLAIN_C)
#define INLINE static inline
#else
#define INLINE static inline __attribute__((always_inline, unused))
#if defined(__x86_64__) || defined(__i386__)
#define CHOOSE_X86 1
#elif defined(__aarch64__) && defined(__ARM_NEON) && !defined(__ARM_BIG_ENDIAN)
#define CHOOSE_ARM64 1
#endif
#endif
#if defined(CHOOSE_X86) || defined(CHOOSE_ARM64) || defined(__wasm_simd128__)
#define SLACK 64 /* bytes behind an array that vectors may read */
#define ALIGNED _Alignas(64)
#else
#define SLACK 0
#define ALIGNED _Alignas(4)
#endif
#if defined(__GNUC__) && defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'
#define CORTEX_M 1
#endif

#ifdef CHOOSE_ARM64
#if defined(__ARM_FEATURE_DOTPROD) /* the flags of the compiler allow it already */
#define WITH_DOTPROD
#elif defined(__clang__)
#define WITH_DOTPROD __attribute__((target("dotprod")))
#else
#define WITH_DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))
#endif
#if defined(__linux__) && !defined(__ARM_FEATURE_DOTPROD)
#include <sys/auxv.h>
#endif

/* 1 if the processor has an instruction for dot products of four bytes. */
INLINE int has_dotprod(void) {
#if defined(__ARM_FEATURE_DOTPROD)
  return 1;
#elif defined(__linux__)
  return getauxval(AT_HWCAP) >> 20 & 1; /* HWCAP_ASIMDDP */
#else
  return 0;
#endif
}
#endif

/* A convolution, with the max-pool behind it. Its kernel is a grid of runs: each run is a row of
 * consecutive input bytes, in groups of four.
 */
struct convolution {
  int rows, cols;                       /* of the output, behind the pool */
  int filters, padded;                  /* outputs; the same, rounded up to a multiple of 4 */
  int run_rows, run_cols;               /* the grid of runs */
  int run_row_step, run_col_step;       /* bytes from a run to the next one */
  int run_groups, run_bytes;            /* the length of a run; zero weights fill the last group */
  int row_step, col_step;               /* bytes of input from a position to the next one */
  int pool_rows, pool_cols;             /* positions of which the largest sum is kept */
  int pool_row_step, pool_col_step;     /* bytes of input from an output to the next one */
  int out_line, out_step;
  int32_t in_low;                       /* the smallest value of the input */
  int32_t zero, low, high;              /* of the output */
  const int8_t *weights;                /* [run][group][output, padded][4] */
  const int32_t *bias, *multipliers;    /* [output, padded] */
  const int8_t *shifts;
#ifdef CHOOSE_X86
  const int32_t *unsigned_bias;         /* the bias for inputs - in_low */
#endif
#ifdef __wasm_simd128__
  const int32_t *lifts;                 /* powers of two that make all shifts `shift`, or NULL */
  int shift;
#endif
  const int16_t *wide;                  /* weights that need nine bits, instead of `weights` */
};

/* A convolution of each channel by itself. */
struct depthwise {
  int rows, cols, channels, padded;     /* of the output */
  int multiplier;                       /* outputs of each input channel */
  int kernel_rows, kernel_cols;
  int kernel_row_step, kernel_col_step; /* bytes of input from a weight to the next one */
  int row_step, col_step;               /* bytes of input from an output to the next one */
  int out_line, out_step;
  int32_t in_low;
  int32_t zero, low, high;
  const int8_t *weights;                /* [row][column][output, padded] */
  const int32_t *bias, *multipliers;
  const int8_t *shifts;
#ifdef CHOOSE_X86
  const int32_t *unsigned_bias;
#endif
#ifdef __wasm_simd128__
  const int32_t *lifts;
  int shift;
#endif
  const int16_t *wide;
};

/* A dense layer. */
struct dense {
  int groups;                           /* inputs in groups of four; zero weights fill the last */
  int outputs, padded;
  int32_t in_zero, in_low;              /* zero point and smallest value of the input */
  int32_t zero, low, high;
  const int8_t *weights;                /* [group][output, padded][4] */
  const int32_t *bias, *multipliers;
  const int8_t *shifts;
#ifdef CHOOSE_X86
  const int32_t *unsigned_bias;
#endif
#ifdef __wasm_simd128__
  const int32_t *lifts;
  int shift;
#endif
#ifdef CORTEX_M
  const int32_t *file_bias;             /* the bias for inputs - in_zero */
#endif
  const int16_t *wide;
};

/* A walk over two tensors: three nested loops around `count` neighbours. */
struct walk {
  int sizes[3], in_steps[3], out_steps[3];
  int count;
};

INLINE int8_t clamp(int32_t value, int32_t low, int32_t high) {
  return (int8_t)(value < low ? low : value > high ? high : value);
}

/* Rounded to nearest once: what TensorFlow Lite does in dense layers. */
INLINE int32_t scale_once(int32_t sum, int32_t multiplier, int shift) {
  const int64_t product = (int64_t)sum * multiplier;
  if (shift > -2)
    return (int32_t)(((product >> (30 - shift)) + 1) >> 1);
  return (((int32_t)(product >> 32) >> (-shift - 2)) + 1) >> 1; /* the upper half is enough */
}

/* Rounded twice, the second time away from zero: what it does in convolutions. */
INLINE int32_t scale_twice(int32_t sum, int32_t multiplier, int shift) {
  const int32_t shifted = shift > 0 ? (int32_t)((uint32_t)sum << shift) : sum;
  const int32_t high = (int32_t)(((int64_t)shifted * multiplier + (1 << 30)) >> 31);
  return shift >= 0 ? high : (((high - (high < 0)) >> (-shift - 1)) + 1) >> 1;
}
