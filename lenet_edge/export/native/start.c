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

#define PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define UNROLL(n) PRAGMA(clang loop unroll_count(n))
#elif defined(__GNUC__) && __GNUC__ >= 8
#define UNROLL(n) PRAGMA(GCC unroll n)
#else
#define UNROLL(n) /* they do it by themselves */
#endif
#if defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 12)
#define CAN_SHUFFLE 1
#else
#define CAN_SHUFFLE 0
#endif

/* Variables by name, and not arrays of them, are what every compiler keeps in registers. */
#define FOUR(DO) DO(0) DO(1) DO(2) DO(3)
#define FIVE(DO) FOUR(DO) DO(4)
