/* `positions` times `blocks` vectors of four filters, from filter `k` on; together at most eight.
 * The positions are neighbours; with a pool, they are part of its window.
 */
INLINE void convolve_filters(const struct convolution *c, const int8_t *in, int8_t *out, int k,
                             int rows, int cols, int positions, int blocks) {
#define EACH_BLOCK(DO) DO(0) DO(1) DO(2) DO(3)
#define EACH_POSITION(DO, b) DO(0, b) DO(1, b) DO(2, b) DO(3, b)
  const int window = c->pool_rows * c->pool_cols, last = cols - 1;
  const int plain = c->low >= c->zero && !has_left_shift(c->shifts, c->padded);
  const int count = c->filters - k < 4 * blocks ? c->filters - k : 4 * blocks;
  const int runs = c->run_rows * c->run_cols, line = 4 * c->padded;
  const int run_line = c->run_groups * line;
#define PLACE_OF_RUN(run)                                                                          \
  ((run) / c->run_cols * c->run_row_step + (run) % c->run_cols * c->run_col_step)
  for (int y = 0; y < rows; y++)
    for (int x = 0; x < cols; x += window > 1 ? 1 : positions) {
      const int8_t *from = in + y * c->pool_row_step + x * c->pool_col_step;
      int8_t *to = out + y * c->out_line + x * c->out_step + k;
#define LEAST(b) int32x4_t best##b = vdupq_n_s32(INT32_MIN);
      EACH_BLOCK(LEAST)
      for (int p = 0; p < window; p += positions) {
#define START(t, b) int32x4_t low##t##b = vdupq_n_s32(0), high##t##b = low##t##b;
#define STARTS(b) EACH_POSITION(START, b)
        EACH_BLOCK(STARTS)
#define PLACE(t, ignored)                                                                          \
  const int p##t = p + t < window ? p + t : window - 1, x##t = x + t < last ? t : last - x;        \
  const int8_t *from##t =                                                                          \
      from + (window > 1 ? p##t / c->pool_cols * c->row_step + p##t % c->pool_cols * c->col_step   \
                         : x##t * c->pool_col_step);
        EACH_POSITION(PLACE, )
        const int8_t *weights = c->weights + 4 * k;
        if (c->run_groups > 1) __asm__("" : "+r"(weights)); /* in a register, not again and again */
        const int8_t *w = weights;
        for (int run = 0; run < runs; run++, w = weights + run * run_line) {
          int at = PLACE_OF_RUN(run);
          for (int g = 0; g + 2 <= c->run_groups; g += 2, at += 8, w += 2 * line) {
#define LOAD(b, next)                                                                              \
  const int at##b = b < blocks ? 16 * b : 0;                                                       \
  const int8x16_t first##b = vld1q_s8(w + at##b), second##b = vld1q_s8(w + (next) + at##b);
#define LOADS(next) LOAD(0, next) LOAD(1, next) LOAD(2, next) LOAD(3, next)
            LOAD_LATER;
            LOADS(line)
#define ADD(t, b)                                                                                  \
  if (b < blocks) {                                                                                \
    const int16x8_t low = vmlal_s8(vmull_s8(vget_low_s8(first##b), vget_low_s8(one)),              \
                                   vget_low_s8(second##b), vget_low_s8(two));                      \
    const int16x8_t high = vmlal_high_s8(vmull_high_s8(first##b, one), second##b, two);            \
    low##t##b = vpadalq_s16(low##t##b, low);                                                       \
    high##t##b = vpadalq_s16(high##t##b, high);                                                    \
  }
#define ADDS(t) ADD(t, 0) ADD(t, 1) ADD(t, 2) ADD(t, 3)
#define ADD_PAIR(t, ignored)                                                                       \
  if (t < positions) {                                                                             \
    LOAD_LATER;                                                                                    \
    const int8x16x2_t both = load_groups(from##t + at);                                            \
    const int8x16_t one = both.val[0], two = both.val[1];                                          \
    ADDS(t)                                                                                        \
  }
            EACH_POSITION(ADD_PAIR, )
          }
        }
        /* The last groups of runs with an odd number of groups: those of two runs together. */
        w = weights + run_line - line;
        for (int run = 0; run < runs && c->run_groups % 2; run += 2, w += 2 * run_line) {
          const int end = 4 * c->run_groups - 4, at = PLACE_OF_RUN(run) + end;
          if (run + 1 < runs) {
            const int next = PLACE_OF_RUN(run + 1) + end;
            LOADS(run_line)
#define ADD_TWO(t, ignored)                                                                        \
  if (t < positions) {                                                                             \
    if (c->run_groups > 1) LOAD_LATER;                                                             \
    const int8x16_t one = load_group(from##t + at), two = load_group(from##t + next);              \
    ADDS(t)                                                                                        \
  }
            EACH_POSITION(ADD_TWO, )
          } else {
            LOADS(0)
#define ADD_LAST(t, b)                                                                             \
  if (b < blocks) {                                                                                \
    low##t##b = vpadalq_s16(low##t##b, vmull_s8(vget_low_s8(first##b), vget_low_s8(one)));         \
    high##t##b = vpadalq_s16(high##t##b, vmull_high_s8(first##b, one));                            \
    (void)second##b;                                                                               \
  }
#define ADD_ONE(t, ignored)                                                                        \
  if (t < positions) {                                                                             \
    if (c->run_groups > 1) LOAD_LATER;                                                             \
    const int8x16_t one = load_group(from##t + at);                                                \
    ADD_LAST(t, 0)                                                                                 \
    ADD_LAST(t, 1)                                                                                 \
    ADD_LAST(t, 2)                                                                                 \
    ADD_LAST(t, 3)                                                                                 \
  }
            EACH_POSITION(ADD_ONE, )
          }
        }
#define SUM(t, b) const int32x4_t sum##t##b = vpaddq_s32(low##t##b, high##t##b);
#define SUMS(b) EACH_POSITION(SUM, b)
        EACH_BLOCK(SUMS)
#define SCALE(sum, b)                                                                              \
  b < blocks ? scale_four_twice(vaddq_s32(sum, vld1q_s32(c->bias + k + 4 * b)),                    \
                                vld1q_s32(c->multipliers + k + 4 * b),                             \
                                load_shifts(c->shifts + k + 4 * b), plain)                         \
             : vdupq_n_s32(0)
        if (window > 1) {
#define KEEP(t, b) if (t < positions) best##b = vmaxq_s32(best##b, sum##t##b);
#define KEEPS(b) EACH_POSITION(KEEP, b)
          EACH_BLOCK(KEEPS)
        } else {
#define STORE(t, ignored)                                                                          \
  if (t < positions)                                                                               \
    store_bytes(to + x##t * c->out_step,                                                           \
                clamp_all(SCALE(sum##t##0, 0), SCALE(sum##t##1, 1), SCALE(sum##t##2, 2),           \
                          SCALE(sum##t##3, 3), c->zero, c->low, c->high),                          \
                count);
          EACH_POSITION(STORE, )
        }
      }
      if (window > 1)
        store_bytes(to, clamp_all(SCALE(best0, 0), SCALE(best1, 1), SCALE(best2, 2),
                                  SCALE(best3, 3), c->zero, c->low, c->high), count);
    }
#undef EACH_BLOCK
#undef EACH_POSITION
#undef PLACE_OF_RUN
#undef LEAST
#undef START
#undef STARTS
#undef PLACE
#undef LOAD
#undef LOADS
#undef ADD
#undef ADDS
#undef ADD_PAIR
#undef ADD_TWO
#undef ADD_LAST
#undef ADD_ONE
#undef SUM
#undef SUMS
#undef SCALE
#undef KEEP
#undef KEEPS
#undef STORE
}

/* Any convolution. Lanes are filters; four positions share each load of weights. */
KERNEL void convolve(const struct convolution *c, const int8_t *in, int8_t *out) {
  /* Without a border and a pool, the positions are one long row. */
  const int is_flat = c->pool_rows * c->pool_cols == 1 && c->row_step == c->cols * c->col_step &&
                      c->out_line == c->cols * c->out_step;
  const int rows = is_flat ? 1 : c->rows, cols = is_flat ? c->rows * c->cols : c->cols;
  int k = 0;
  for (; k + 16 <= c->padded; k += 16)
    convolve_filters(c, in, out, k, rows, cols, 2, 4);
  const int rest = (c->padded - k) / 4;
  if (rest == 1) convolve_filters(c, in, out, k, rows, cols, 4, 1);
  if (rest == 2) convolve_filters(c, in, out, k, rows, cols, 4, 2);
  if (rest == 3) convolve_filters(c, in, out, k, rows, cols, 2, 3);
}
