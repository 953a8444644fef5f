#if USE_MVE
/* A dense layer, four outputs at a time: dot products of 16 inputs. */
KERNEL void dense(const struct dense *d, const int8_t *in, int8_t *out) {
  const uint32_t step = 4u * (uint32_t)d->padded; /* bytes from a group to the next one */
  const uint32x4_t groups = vmulq_n_u32(vidupq_n_u32(0, 1), step);
  ROLLED
  for (int k = 0; k < d->outputs; k += 4) {
    uint32x4_t at = vaddq_n_u32(groups, (uint32_t)(uintptr_t)(d->weights + 4 * k));
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#ifdef INT4
    uint32x4_t x = vaddq_n_u32(vidupq_n_u32(0, 8), (uint32_t)(uintptr_t)in);
#else
    const int8_t *x = in;
#endif
    __asm__ volatile("wlstp.32 lr, %[groups], 2f\n\t"
#ifdef INT4
                     "1: vldrw.u32 q0, [%q[x]]\n\t"     /* the even groups */
                     "vldrw.u32 q1, [%q[x], #4]\n\t"     /* the odd groups */
                     "vldrw.u32 q2, [%q[at]]\n\t"
                     "vand q3, q2, %q[half]\n\t"
                     "vshl.i8 q2, q2, #4\n\t"
                     "vmladava.s8 %[s0], q0, q2\n\t"
                     "vmladava.s8 %[s0], q1, q3\n\t"
                     "vldrw.u32 q2, [%q[at], #4]\n\t"
                     "vand q3, q2, %q[half]\n\t"
                     "vshl.i8 q2, q2, #4\n\t"
                     "vmladava.s8 %[s1], q0, q2\n\t"
                     "vmladava.s8 %[s1], q1, q3\n\t"
                     "vldrw.u32 q2, [%q[at], #8]\n\t"
                     "vand q3, q2, %q[half]\n\t"
                     "vshl.i8 q2, q2, #4\n\t"
                     "vmladava.s8 %[s2], q0, q2\n\t"
                     "vmladava.s8 %[s2], q1, q3\n\t"
                     "vldrw.u32 q2, [%q[at], #12]\n\t"
                     "vand q3, q2, %q[half]\n\t"
                     "vshl.i8 q2, q2, #4\n\t"
                     "vmladava.s8 %[s3], q0, q2\n\t"
                     "vmladava.s8 %[s3], q1, q3\n\t"
                     "vadd.i32 %q[at], %q[at], %[next]\n\t"
                     "vadd.i32 %q[x], %q[x], %[eight]\n\t"
                     "letp lr, 1b\n\t"
                     "2:"
                     : [s0] "+Te"(s0), [s1] "+Te"(s1), [s2] "+Te"(s2), [s3] "+Te"(s3),
                       [x] "+w"(x), [at] "+w"(at)
                     : [groups] "r"((d->groups + 1) / 2), [next] "r"(4 * step), [eight] "r"(32),
                       [half] "w"(vdupq_n_u8(0xF0))
                     : "q0", "q1", "q2", "q3", "lr", "memory");
#else
                     "1: vldrb.u8 q0, [%[x]], #16\n\t"
                     "vldrw.u32 q1, [%q[at]]\n\t"
                     "vmladava.s8 %[s0], q0, q1\n\t"
                     "vldrw.u32 q2, [%q[at], #4]\n\t"
                     "vmladava.s8 %[s1], q0, q2\n\t"
                     "vldrw.u32 q1, [%q[at], #8]\n\t"
                     "vmladava.s8 %[s2], q0, q1\n\t"
                     "vldrw.u32 q2, [%q[at], #12]\n\t"
                     "vmladava.s8 %[s3], q0, q2\n\t"
                     "vadd.i32 %q[at], %q[at], %[next]\n\t"
                     "letp lr, 1b\n\t"
                     "2:"
                     : [s0] "+Te"(s0), [s1] "+Te"(s1), [s2] "+Te"(s2), [s3] "+Te"(s3),
                       [x] "+r"(x), [at] "+w"(at)
                     : [groups] "r"(d->groups), [next] "r"(4 * step)
                     : "q0", "q1", "q2", "lr", "memory");
#endif
    const int32_t sums[4] = {s0, s1, s2, s3};
    const int32x4_t shifts = vldrbq_s32(d->shifts + k);
    const int count = d->outputs - k < 4 ? d->outputs - k : 4;
    if (vmaxvq_s32(-128, shifts) > -2)
      for (int n = k; n < k + count; n++)
        out[n] = clamp(scale_once(sums[n - k] + d->bias[n], d->multipliers[n], d->shifts[n]) +
                           d->zero, d->low, d->high);
    else { /* the upper half of the products is enough */
      int32x4_t v = vaddq_s32(vld1q_s32(sums), vld1q_s32(d->bias + k));
      v = vmulhq_s32(v, vld1q_s32(d->multipliers + k));
      v = vaddq_n_s32(vrshlq_s32(v, vaddq_n_s32(shifts, 1)), d->zero);
      v = vmaxq_s32(vminq_s32(v, vdupq_n_s32(d->high)), vdupq_n_s32(d->low));
      vstrbq_p_s32(out + k, v, vctp32q((uint32_t)count));
    }
  }
}
#else
#ifdef INT4
enum { LIST_GROUPS = 64 }; /* groups of inputs in a list: their sums times 4096 fit 32 bits */
#else
enum { LIST_GROUPS = 128 }; /* groups of inputs in a list */
#endif

#if USE_DSP
#ifdef INT4
/* Two groups of inputs, one of which differs from the zero point, as pairs, and the place of their
 * weights.
 */
struct input {
  uint32_t even, odd, next_even, next_odd, place;
};
enum { LIST_INPUTS = LIST_GROUPS / 2 };

/* List the inputs of some groups; return the end of the list. */
INLINE struct input *list_inputs(const struct dense *d, const int8_t *in, int groups,
                                 struct input *end) {
  const uint32_t zero = (uint8_t)d->in_zero * 0x01010101u;
  const uint32_t zeros = (uint16_t)d->in_zero * 0x00010001u;
  ROLLED
  for (int g = 0; g < groups; g += 2, in += 8) {
    const uint32_t four = load_four(in), next = g + 1 < groups ? load_four(in + 4) : zero;
    if (four == zero && next == zero)
      continue;
    end->even = subtract_pairs(even_bytes(four), zeros);
    end->odd = subtract_pairs(odd_bytes(four), zeros);
    end->next_even = subtract_pairs(even_bytes(next), zeros);
    end->next_odd = subtract_pairs(odd_bytes(next), zeros);
    end->place = 2 * (uint32_t)(g * d->padded);
    end++;
  }
  return end;
}

/* Each halfword of the weights in r5 has four of them. Bring one after the other to its top, which
 * makes it a weight times 4096.
 */
#define ADD_WEIGHTS(place, sum)                                                                   \
  "ldr r5, [r4, #" place "]\n\t"                                                                  \
  "and lr, r6, r5, lsl #12\n\t"                                                                  \
  "smlad " sum ", r0, lr, " sum "\n\t"                                                            \
  "and lr, r6, r5, lsl #4\n\t"                                                                   \
  "smlad " sum ", r1, lr, " sum "\n\t"                                                            \
  "and lr, r6, r5, lsl #8\n\t"                                                                   \
  "smlad " sum ", r2, lr, " sum "\n\t"                                                            \
  "and lr, r6, r5\n\t"                                                                           \
  "smlad " sum ", r3, lr, " sum "\n\t"

/* Add the products of a list, which is not empty, to four sums, times 16. It is in assembler because
 * it needs all registers.
 */
__attribute__((naked, noinline)) static void add_inputs(
    const struct input *list __attribute__((unused)),
    const struct input *end __attribute__((unused)),
    const int8_t *weights __attribute__((unused)), int32_t sums[4] __attribute__((unused))) {
  __asm__("push {r1, r3, r4, r5, r6, r7, r8, r9, r10, r11, r12, lr}\n\t"
          "mov r12, r0\n\t"
          "mov r11, r2\n\t"
          "mov r6, #0xF000F000\n\t"
          "mov r7, #0\n\t"
          "mov r8, #0\n\t"
          "mov r9, #0\n\t"
          "mov r10, #0\n"
          "1: ldmia r12!, {r0, r1, r2, r3, r4}\n\t" /* even, odd, even, odd, place */
          "add r4, r11\n\t"
          ADD_WEIGHTS("0", "r7")
          ADD_WEIGHTS("4", "r8")
          ADD_WEIGHTS("8", "r9")
          ADD_WEIGHTS("12", "r10")
          "ldr lr, [sp]\n\t"
          "cmp r12, lr\n\t"
          "bne 1b\n\t"
          "pop {r1, r3}\n\t"
          "ldmia r3, {r0, r1, r2, r4}\n\t"
          "add r0, r0, r7, asr #8\n\t"
          "add r1, r1, r8, asr #8\n\t"
          "add r2, r2, r9, asr #8\n\t"
          "add r4, r4, r10, asr #8\n\t"
          "stmia r3, {r0, r1, r2, r4}\n\t"
          "pop {r4, r5, r6, r7, r8, r9, r10, r11, r12, pc}");
}
#undef ADD_WEIGHTS
#else
/* A group of inputs that differs from the zero point, as pairs, and the place of its weights. */
struct input {
  uint32_t even, odd, place;
};
enum { LIST_INPUTS = LIST_GROUPS };

/* List the inputs of some groups; return the end of the list. */
INLINE struct input *list_inputs(const struct dense *d, const int8_t *in, int groups,
                                 struct input *end) {
  const uint32_t zero = (uint8_t)d->in_zero * 0x01010101u;
  const uint32_t zeros = (uint16_t)d->in_zero * 0x00010001u;
  ROLLED
  for (int g = 0; g < groups; g++, in += 4) {
    const uint32_t four = load_four(in);
    if (four == zero)
      continue;
    end->even = subtract_pairs(even_bytes(four), zeros);
    end->odd = subtract_pairs(odd_bytes(four), zeros);
    end->place = 4 * (uint32_t)(g * d->padded);
    end++;
  }
  return end;
}

/* Add the products of a list, which is not empty, to four sums. It is in assembler because it needs
 * all registers.
 */
__attribute__((naked, noinline)) static void add_inputs(
    const struct input *list __attribute__((unused)),
    const struct input *end __attribute__((unused)),
    const int8_t *weights __attribute__((unused)), int32_t sums[4] __attribute__((unused))) {
  __asm__("push {r3, r4, r5, r6, r7, r8, r9, r10, r11, lr}\n\t"
          "mov r12, r0\n\t"
          "mov lr, r1\n\t"
          "mov r11, r2\n\t"
          "ldmia r3, {r7, r8, r9, r10}\n"
          "1: ldmia r12!, {r0, r1, r2}\n\t" /* even, odd, place */
          "add r2, r11\n\t"
          "ldmia r2, {r2, r3, r4, r5}\n\t"
          "sxtb16 r6, r2\n\t"
          "sxtb16 r2, r2, ror #8\n\t"
          "smlad r7, r0, r6, r7\n\t"
          "smlad r7, r1, r2, r7\n\t"
          "sxtb16 r6, r3\n\t"
          "sxtb16 r3, r3, ror #8\n\t"
          "smlad r8, r0, r6, r8\n\t"
          "smlad r8, r1, r3, r8\n\t"
          "sxtb16 r6, r4\n\t"
          "sxtb16 r4, r4, ror #8\n\t"
          "smlad r9, r0, r6, r9\n\t"
          "smlad r9, r1, r4, r9\n\t"
          "sxtb16 r6, r5\n\t"
          "sxtb16 r5, r5, ror #8\n\t"
          "smlad r10, r0, r6, r10\n\t"
          "smlad r10, r1, r5, r10\n\t"
          "cmp r12, lr\n\t"
          "bne 1b\n\t"
          "pop {r3}\n\t"
          "stmia r3, {r7, r8, r9, r10}\n\t"
          "pop {r4, r5, r6, r7, r8, r9, r10, r11, pc}");
}
#endif
#else
#ifdef INT4
/* Inputs of two groups minus the zero point, and the place of their weights. */
struct input {
  int16_t value, next;
  uint32_t place;
};
enum { LIST_INPUTS = 2 * LIST_GROUPS };

INLINE struct input *list_inputs(const struct dense *d, const int8_t *in, int groups,
                                 struct input *end) {
  ROLLED
  for (int g = 0; g < groups; g += 2, in += 8)
    for (int n = 0; n < 4; n++) {
      const int32_t value = in[n] - d->in_zero;
      const int32_t next = g + 1 < groups ? in[4 + n] - d->in_zero : 0;
      if (value | next) {
        end->value = (int16_t)value;
        end->next = (int16_t)next;
        (end++)->place = (uint32_t)(2 * g * d->padded + n);
      }
    }
  return end;
}

/* Add the products of a list, which is not empty, to four sums, times 16. */
INLINE void add_inputs(const struct input *list, const struct input *end, const int8_t *weights,
                       int32_t sums[4]) {
  int32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
  ROLLED
  do {
    const int8_t *w = weights + list->place;
    const int32_t value = list->value, next = list->next;
    s0 += (int8_t)(w[0] * 16) * value + (w[0] & ~15) * next;
    s1 += (int8_t)(w[4] * 16) * value + (w[4] & ~15) * next;
    s2 += (int8_t)(w[8] * 16) * value + (w[8] & ~15) * next;
    s3 += (int8_t)(w[12] * 16) * value + (w[12] & ~15) * next;
  } while (++list != end);
  sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}
#else
/* An input minus the zero point plus 256 in the lower 9 bits, and the place of its weights above them. */
struct input {
  uint32_t packed;
};
enum { LIST_INPUTS = 4 * LIST_GROUPS };

INLINE struct input *list_inputs(const struct dense *d, const int8_t *in, int groups,
                                 struct input *end) {
  ROLLED
  for (int g = 0; g < groups; g++, in += 4)
    for (int n = 0; n < 4; n++)
      if (in[n] != d->in_zero) {
        const uint32_t place = (uint32_t)(4 * g * d->padded + n);
        (end++)->packed = place << 9 | (uint32_t)(in[n] - d->in_zero + 256);
      }
  return end;
}

INLINE void add_inputs(const struct input *list, const struct input *end, const int8_t *weights,
                       int32_t sums[4]) {
  int32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
  ROLLED
  do {
    const int8_t *w = weights + (list->packed >> 9);
    const int32_t value = (int32_t)(list->packed & 511) - 256;
    s0 += w[0] * value;
    s1 += w[4] * value;
    s2 += w[8] * value;
    s3 += w[12] * value;
  } while (++list != end);
  sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}
#endif
#endif

/* A dense layer, four outputs at a time, which walk along a list of the inputs that differ from the
 * zero point.
 */
KERNEL void dense(const struct dense *d, const int8_t *in, int8_t *out) {
  struct input list[LIST_INPUTS], *end = list;
#ifdef INT4
  const int most = LIST_GROUPS;
#else
  const int most = d->padded < 1 << 14 ? LIST_GROUPS : 1; /* places have 23 bits */
#endif
  ROLLED
  for (int k = 0; k < d->outputs; k += BLOCK_FILTERS) {
    const int count = d->outputs - k < BLOCK_FILTERS ? d->outputs - k : BLOCK_FILTERS;
    int32_t sums[BLOCK_FILTERS] = {0};
    for (int part = 0; part < d->groups; part += most) {
      const int rest = d->groups - part, groups = rest < most ? rest : most;
      if (k == 0 || d->groups > most)
        end = list_inputs(d, in + 4 * part, groups, list);
#ifdef INT4
      const int8_t *weights = d->weights + 2 * part * d->padded + 4 * k;
#else
      const int8_t *weights = d->weights + 4 * (part * d->padded + k);
#endif
      if (end != list)
        ROLLED
        for (int n = 0; n < count; n += 4)
          add_inputs(list, end, weights + 4 * n, sums + n);
    }
    ROLLED
    for (int n = 0; n < count; n++) {
      const int32_t sum = sums[n] + d->file_bias[k + n];
      if (sum <= 0 && d->low >= d->zero) /* a ReLU */
        out[k + n] = (int8_t)d->low;
      else
        out[k + n] = clamp(scale_once(sum, d->multipliers[k + n], d->shifts[k + n]) + d->zero,
                           d->low, d->high);
    }
  }
}
#endif
