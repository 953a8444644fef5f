/* Keep the loads behind this line where they are: GCC moves all of them to the top of a loop, and
 * then has not enough registers.
 */
#define LOAD_LATER __asm__ volatile("" ::: "memory")

/* Store the first `count` bytes, or all 16 if there are not as many. */
INLINE void store_bytes(int8_t *to, int8x16_t bytes, int count) {
  if (count >= 16) {
    vst1q_s8(to, bytes);
    return;
  }
  if (count & 8) {
    vst1_s8(to, vget_low_s8(bytes));
    bytes = vextq_s8(bytes, bytes, 8);
    to += 8;
  }
  if (count & 4) {
    const int32_t four = vgetq_lane_s32(vreinterpretq_s32_s8(bytes), 0);
    memcpy(to, &four, sizeof four);
    bytes = vextq_s8(bytes, bytes, 4);
    to += 4;
  }
  if (count & 2) {
    const int16_t two = vgetq_lane_s16(vreinterpretq_s16_s8(bytes), 0);
    memcpy(to, &two, sizeof two);
    bytes = vextq_s8(bytes, bytes, 2);
    to += 2;
  }
  if (count & 1) *to = vgetq_lane_s8(bytes, 0);
}

/* Four of the shifts, as integers of 32 bits. */
INLINE int32x4_t load_shifts(const int8_t *shifts) {
  return vmovl_s16(vget_low_s16(vmovl_s8(vld1_s8(shifts))));
}

/* 1 if one of the shifts goes to the left. */
INLINE int has_left_shift(const int8_t *shifts, int count) {
  int left = 0;
  for (int n = 0; n < count; n += 16)
    left |= vmaxvq_s8(vld1q_s8(shifts + n)) > 0;
  return left;
}

/* `scale_twice` of four sums. `plain`: none is shifted to the left, and negative results will be
 * clamped, so that it does not matter how their halves are rounded.
 */
INLINE int32x4_t scale_four_twice(int32x4_t sums, int32x4_t multipliers, int32x4_t shifts,
                                  int plain) {
  if (plain) return vrshlq_s32(vqrdmulhq_s32(sums, multipliers), shifts);
  const int32x4_t none = vdupq_n_s32(0), right = vminq_s32(shifts, none);
  const int32x4_t high =
      vqrdmulhq_s32(vshlq_s32(sums, vmaxq_s32(shifts, none)), multipliers);
  return vrshlq_s32(vsraq_n_s32(high, vandq_s32(high, right), 31), right);
}

/* `scale_once` of four sums. A product that is cut to 31 bits less is rounded by the last shift. */
INLINE int32x4_t scale_four_once(int32x4_t sums, int32x4_t multipliers, int32x4_t shifts) {
  const int32x4_t left = vmaxq_s32(vaddq_s32(shifts, vdupq_n_s32(1)), vdupq_n_s32(0));
  return vrshlq_s32(vqdmulhq_s32(vqshlq_s32(sums, left), multipliers), vsubq_s32(shifts, left));
}

/* A group of four inputs, four times. */
INLINE int8x16_t load_group(const int8_t *from) {
  int32_t four;
  memcpy(&four, from, sizeof four);
  return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

/* Two groups of four inputs, each four times. */
INLINE int8x16x2_t load_groups(const int8_t *from) {
  const int32x4x2_t both = vld2q_dup_s32((const void *)from);
  const int8x16x2_t bytes = {{vreinterpretq_s8_s32(both.val[0]), vreinterpretq_s8_s32(both.val[1])}};
  return bytes;
}

/* 8 outputs: the scaled sums plus the zero point, clamped; twice. */
INLINE int8x16_t clamp_eight(int32x4_t a, int32x4_t b, int32_t zero, int32_t low, int32_t high) {
  const int16x8_t offset = vdupq_n_s16((int16_t)zero);
  const int16x8_t sums = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(a), b), offset);
  int8x8_t bytes = vqmovn_s16(sums);
  bytes = vmin_s8(vmax_s8(bytes, vdup_n_s8((int8_t)low)), vdup_n_s8((int8_t)high));
  return vcombine_s8(bytes, bytes);
}

/* 16 outputs: the scaled sums plus the zero point, clamped. */
INLINE int8x16_t clamp_all(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d, int32_t zero,
                           int32_t low, int32_t high) {
  const int16x8_t offset = vdupq_n_s16((int16_t)zero);
  const int16x8_t first = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(a), b), offset);
  const int16x8_t second = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(c), d), offset);
  const int8x16_t bytes = vqmovn_high_s16(vqmovn_s16(first), second);
  return vminq_s8(vmaxq_s8(bytes, vdupq_n_s8((int8_t)low)), vdupq_n_s8((int8_t)high));
}

