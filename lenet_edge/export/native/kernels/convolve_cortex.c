INLINE void put_group(struct window *w, int group, int position, const int8_t *from) {
#if USE_MVE
  memcpy(w->bytes[position] + 4 * group, from, 4);
#elif USE_DSP
  const uint32_t four = load_four(from);
  w->pairs[group][position][0] = even_bytes(four);
  w->pairs[group][position][1] = odd_bytes(four);
#else
  for (int n = 0; n < 4; n++)
    w->bytes[group][position][n] = from[n];
#endif
}

/* Copy the inputs of four positions, from group `first` on, to the window. */
INLINE void fill_window(const struct convolution *c, const int8_t *const from[4], int first,
                        int groups, struct window *window) {
  int run = first / c->run_groups, group = first % c->run_groups;
  int row = run / c->run_cols, col = run % c->run_cols;
  for (int g = 0; g < groups; g++) {
    const int place = row * c->run_row_step + col * c->run_col_step + 4 * group;
    for (int p = 0; p < 4; p++)
      put_group(window, g, p, from[p] + place);
    if (++group == c->run_groups) {
      group = 0;
      if (++col == c->run_cols) {
        col = 0;
        row++;
      }
    }
  }
}

#if USE_MVE
/* Add the products of a filter to the sums of four positions. A vector has four groups; the loop
 * leaves out the lanes behind the last group.
 */
INLINE void add_filters(const struct convolution *c, const struct window *window, int groups,
                        const int8_t *weights, int32_t sums[1][4]) {
  const int8_t *bytes = window->bytes[0];
  const uint32_t step = 4u * (uint32_t)c->padded;
  const uint32x4_t lanes = vmulq_n_u32(vidupq_n_u32(0, 1), step);
  __asm__ volatile("wlstp.32 lr, %[groups], 2f\n\t"
                   "1: vldrw.u32 q0, [%[weights], %q[lanes]]\n\t"
                   "add %[weights], %[weights], %[next]\n\t"
                   "vldrw.u32 q1, [%[bytes]], #16\n\t"
                   "vmladava.s8 %[s0], q0, q1\n\t"
                   "vldrw.u32 q2, [%[bytes], #48]\n\t"
                   "vmladava.s8 %[s1], q0, q2\n\t"
                   "vldrw.u32 q1, [%[bytes], #112]\n\t"
                   "vmladava.s8 %[s2], q0, q1\n\t"
                   "vldrw.u32 q2, [%[bytes], #176]\n\t"
                   "vmladava.s8 %[s3], q0, q2\n\t"
                   "letp lr, 1b\n\t"
                   "2:"
                   : [s0] "+Te"(sums[0][0]), [s1] "+Te"(sums[0][1]), [s2] "+Te"(sums[0][2]),
                     [s3] "+Te"(sums[0][3]), [weights] "+r"(weights), [bytes] "+r"(bytes)
                   : [groups] "r"(groups), [lanes] "w"(lanes), [next] "rI"(4 * step)
                   : "q0", "q1", "q2", "lr", "memory");
}
#elif USE_DSP
/* One group: r0 and r1 become the pairs of four weights, r2 to r4 those of one and a half positions.
 * A sixth register would load them in two instructions instead of three, but then compilers run out
 * of registers where several convolutions share this code.
 */
#define MULTIPLY_GROUP                                                                            \
  "ldr r0, [%[weights]]\n\t"                                                                      \
  "add %[weights], %[step]\n\t"                                                                   \
  "ldmia %[pairs]!, {r2, r3, r4}\n\t"                                                             \
  "sxtb16 r1, r0\n\t"                                                                            \
  "sxtb16 r0, r0, ror #8\n\t"                                                                    \
  "smlad %[s0], r1, r2, %[s0]\n\t"                                                               \
  "smlad %[s0], r0, r3, %[s0]\n\t"                                                               \
  "smlad %[s1], r1, r4, %[s1]\n\t"                                                               \
  "ldmia %[pairs]!, {r2, r3, r4}\n\t"                                                             \
  "smlad %[s1], r0, r2, %[s1]\n\t"                                                               \
  "smlad %[s2], r1, r3, %[s2]\n\t"                                                               \
  "smlad %[s2], r0, r4, %[s2]\n\t"                                                               \
  "ldmia %[pairs]!, {r2, r3}\n\t"                                                                 \
  "smlad %[s3], r1, r2, %[s3]\n\t"                                                               \
  "smlad %[s3], r0, r3, %[s3]\n\t"

INLINE int32_t add_products(uint32_t a, uint32_t b, int32_t sum) {
  int32_t result;
  __asm__("smlad %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
  return result;
}

/* Add the products of a filter to the sums of four positions. */
INLINE void add_filters(const struct convolution *c, const struct window *window, int groups,
                        const int8_t *weights, int32_t sums[1][4]) {
  /* In assembler, two groups in a round, where the step fits into an instruction: then the
   * registers suffice.
   */
  if (__builtin_constant_p(c->padded) && c->padded < 64) {
    const void *pairs = window->pairs;
    __asm__ volatile("lsrs %[groups], #1\n\t"
                     "bcc 1f\n\t"
                     "add %[groups], #1\n\t"
                     "b 2f\n"
                     "1: " MULTIPLY_GROUP
                     "2: " MULTIPLY_GROUP
                     "subs %[groups], #1\n\t"
                     "bne 1b"
                     : [s0] "+r"(sums[0][0]), [s1] "+r"(sums[0][1]), [s2] "+r"(sums[0][2]),
                       [s3] "+r"(sums[0][3]), [weights] "+r"(weights), [pairs] "+r"(pairs),
                       [groups] "+r"(groups)
                     : [step] "i"(4 * c->padded)
                     : "r0", "r1", "r2", "r3", "r4", "cc", "memory");
    return;
  }
  ROLLED
  for (int g = 0; g < groups; g++, weights += 4 * c->padded) {
    const uint32_t four = load_four(weights), even = even_bytes(four), odd = odd_bytes(four);
    for (int p = 0; p < 4; p++) {
      const uint32_t *pairs = window->pairs[g][p];
      sums[0][p] = add_products(odd, pairs[1], add_products(even, pairs[0], sums[0][p]));
    }
  }
}
#undef MULTIPLY_GROUP
#else
/* Add the products of some bytes of a group and of one filter to the sums of four positions. Small
 * cores extend the sign of a byte in a second instruction, so that bytes above zero are unsigned.
 */
#define BYTE(n) (c->in_low >= 0 ? (uint8_t)x[n] : x[n])
#define MULTIPLY_GROUP(count, s, w)                                                               \
  for (int n = 0; n < (count); n++) {                                                             \
    const int32_t weight = (w)[n];                                                                \
    s##0 += BYTE(n) * weight;                                                                     \
    s##1 += BYTE(n + 4) * weight;                                                                 \
    s##2 += BYTE(n + 8) * weight;                                                                 \
    s##3 += BYTE(n + 12) * weight;                                                                \
  }
#define MULTIPLY_GROUP_TWICE(count)                                                               \
  for (int n = 0; n < (count); n++) {                                                             \
    const int32_t weight = weights[n], other = weights[n + 4];                                    \
    s0 += BYTE(n) * weight;                                                                       \
    t0 += BYTE(n) * other;                                                                        \
    s1 += BYTE(n + 4) * weight;                                                                   \
    t1 += BYTE(n + 4) * other;                                                                    \
    s2 += BYTE(n + 8) * weight;                                                                   \
    t2 += BYTE(n + 8) * other;                                                                    \
    s3 += BYTE(n + 12) * weight;                                                                  \
    t3 += BYTE(n + 12) * other;                                                                   \
  }

/* Add the products of some filters to the sums of four positions. */
static __attribute__((noinline)) void add_filters(const struct convolution *c,
                                                  const struct window *window, int groups,
                                                  const int8_t *weights,
                                                  int32_t sums[FILTERS_AT_ONCE][4]) {
  const int runs = c->run_rows * c->run_cols;
  const int is_whole = runs * c->run_groups <= WINDOW_GROUPS; /* else zero weights fill up the runs */
  const int tail = is_whole ? c->run_bytes % 4 : 0;
  const int full = is_whole ? c->run_bytes / 4 : groups;
  const int rows = is_whole ? runs : 1;
  const int8_t *x = window->bytes[0][0];
  int32_t s0 = sums[0][0], s1 = sums[0][1], s2 = sums[0][2], s3 = sums[0][3];
#if FILTERS == 2
  int32_t t0 = sums[1][0], t1 = sums[1][1], t2 = sums[1][2], t3 = sums[1][3];
#define MULTIPLY(count) MULTIPLY_GROUP_TWICE(count)
#else
#define MULTIPLY(count) MULTIPLY_GROUP(count, s, weights)
#endif
  ROLLED
  for (int r = 0; r < rows; r++) {
    ROLLED
    for (int g = 0; g < full; g++, x += 16, weights += 4 * c->padded)
      MULTIPLY(4)
    if (tail) {
      MULTIPLY(tail)
      x += 16;
      weights += 4 * c->padded;
    }
  }
  sums[0][0] = s0, sums[0][1] = s1, sums[0][2] = s2, sums[0][3] = s3;
#if FILTERS == 2
  sums[1][0] = t0, sums[1][1] = t1, sums[1][2] = t2, sums[1][3] = t3;
#endif
}
#endif

/* Scale the sums of some filters to outputs. */
INLINE void scale_filters(const struct convolution *c, int first, int count, const int32_t *sums,
                          int8_t *out) {
#if USE_MVE
  ROLLED
  for (int n = 0; n < count; n += 4) {
    const int32x4_t shifts = vldrbq_s32(c->shifts + first + n);
    int32x4_t v = vaddq_s32(vld1q_s32(sums + n), vld1q_s32(c->bias + first + n));
    v = vshlq_s32(v, vmaxq_s32(shifts, vdupq_n_s32(0)));
    v = vqrdmulhq_s32(v, vld1q_s32(c->multipliers + first + n));
    /* a shift to the right rounds halves away from zero */
    v = vaddq_s32(v, vshrq_n_s32(vandq_s32(v, shifts), 31));
    v = vaddq_n_s32(vrshlq_s32(v, vminq_s32(shifts, vdupq_n_s32(0))), c->zero);
    v = vmaxq_s32(vminq_s32(v, vdupq_n_s32(c->high)), vdupq_n_s32(c->low));
    vstrbq_p_s32(out + n, v, vctp32q((uint32_t)(count - n)));
  }
#else
  ROLLED
  for (int n = 0; n < count; n++) {
    const int32_t sum = sums[n] + c->bias[first + n];
    if (sum <= 0 && c->low >= c->zero) /* a ReLU */
      out[n] = (int8_t)c->low;
    else
      out[n] = clamp(scale_twice(sum, c->multipliers[first + n], c->shifts[first + n]) + c->zero,
                     c->low, c->high);
  }
#endif
}

/* Any convolution, four positions at a time: those that a pool covers, or one after the other. */
KERNEL void convolve(const struct convolution *c, const int8_t *in, int8_t *out) {
  struct window window;
  int32_t sums[4][BLOCK_FILTERS], best[BLOCK_FILTERS];
  const int pool = c->pool_rows * c->pool_cols;
  const int groups = c->run_rows * c->run_cols * c->run_groups;
  int y = 0, x = 0;
  ROLLED
  while (y < c->rows) {
    const int8_t *from[4], *place = in;
    int8_t *to[4] = {out, out, out, out};
    int count = 0;
    for (int p = 0; p < (pool > 1 ? 1 : 4); p++) {
      if (y < c->rows) {
        place = in + y * c->pool_row_step + x * c->pool_col_step;
        to[p] = out + y * c->out_line + x * c->out_step;
        count++;
        if (++x == c->cols) {
          x = 0;
          y++;
        }
      }
      from[p] = place;
    }
    for (int k = 0; k < c->filters; k += BLOCK_FILTERS) {
      const int filters = c->filters - k < BLOCK_FILTERS ? c->filters - k : BLOCK_FILTERS;
      for (int first = 0; first < pool; first += 4) {
        for (int p = 0; p < 4 && pool > 1; p++) {
          const int n = first + p < pool ? first + p : pool - 1;
          from[p] = place + n / c->pool_cols * c->row_step + n % c->pool_cols * c->col_step;
        }
        for (int part = 0; part < groups; part += WINDOW_GROUPS) {
          const int rest = groups - part, length = rest < WINDOW_GROUPS ? rest : WINDOW_GROUPS;
          if (k == 0 || pool > 4 || groups > WINDOW_GROUPS)
            fill_window(c, from, part, length, &window);
          const int8_t *weights = c->weights + 4 * (part * c->padded + k);
          ROLLED
          for (int n = 0; n < filters; n += FILTERS_AT_ONCE, weights += 4 * FILTERS_AT_ONCE) {
            int32_t these[FILTERS_AT_ONCE][4];
            for (int f = 0; f < FILTERS_AT_ONCE; f++)
              for (int p = 0; p < 4; p++)
                these[f][p] = part > 0 ? sums[p][n + f] : 0;
            add_filters(c, &window, length, weights, these);
            for (int f = 0; f < FILTERS_AT_ONCE; f++)
              if (pool > 1 && rest <= WINDOW_GROUPS) {
                const int32_t most = larger(larger(these[f][0], these[f][1]),
                                            larger(these[f][2], these[f][3]));
                best[n + f] = first > 0 ? larger(best[n + f], most) : most;
              } else
                for (int p = 0; p < 4; p++)
                  sums[p][n + f] = these[f][p];
          }
        }
      }
      if (pool > 1)
        scale_filters(c, k, filters, best, to[0] + k);
      else
        ROLLED
        for (int p = 0; p < count; p++)
          scale_filters(c, k, filters, sums[p], to[p] + k);
    }
  }
}
