#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The integer arithmetic of TensorFlow Lite's reference kernels, to the bit: a real number is
 * scale * (integer - zero point), and a sum goes to the scale of the output by a multiplier of
 * 31 bits and a shift to the left (to the right where it is negative).
 * Source: TensorFlow Lite 8-bit quantization specification, and gemmlowp's fixed-point rules.
 */

static int8_t clamp(int32_t value, int32_t low) {
  return (int8_t)(value < low ? low : value > 127 ? 127 : value);
}

/* Rounded to nearest once: what TensorFlow Lite does in dense layers. */
static inline int32_t scale_once(int32_t sum, int32_t multiplier, int shift) {
  const int64_t product = (int64_t)sum * multiplier, half = (int64_t)1 << (30 - shift);
  return (int32_t)((product + half) >> (31 - shift));
}

/* Rounded twice, the second time away from zero: what it does in convolutions. */
static inline int32_t scale_twice(int32_t sum, int32_t multiplier, int shift) {
  const int left = shift > 0 ? shift : 0, right = shift > 0 ? 0 : -shift;
  const int64_t product = (int64_t)sum * ((int64_t)1 << left) * multiplier;
  const int32_t high = (int32_t)((product + (1 << 30)) >> 31);
  const int32_t half = (int32_t)(((int64_t)1 << right) >> 1);
  return (high + half - (high < 0 && right > 0)) >> right;
}
