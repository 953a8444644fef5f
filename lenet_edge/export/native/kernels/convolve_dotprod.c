/* Four positions and `blocks` vectors of four filters, from filter `k` on. The positions are
 * neighbours; with a pool, they are part of its window.
 */
INLINE void convolve_filters(const struct convolution *c, const int8_t *in, int8_t *out, int k,
                             int rows, int cols, int blocks) {
#define EACH_BLOCK(DO) DO(0) DO(1) DO(2) DO(3)
#define EACH_POSITION(DO, b) DO(0, b) DO(1, b) DO(2, b) DO(3, b)
  const int window = c->pool_rows * c->pool_cols, last = cols - 1;
  const int plain = c->low >= c->zero && !has_left_shift(c->shifts, c->padded);
  const int count = c->filters - k < 4 * blocks ? c->filters - k : 4 * blocks;
#define LOAD(b)                                                                                    \
  const int at##b = k + (b < blocks ? 4 * b : 0);                                                  \
  const int32x4_t bias##b = vld1q_s32(c->bias + at##b), shift##b = load_shifts(c->shifts + at##b); \
  const int32x4_t multiplier##b = vld1q_s32(c->multipliers + at##b);
  EACH_BLOCK(LOAD)
  for (int y = 0; y < rows; y++)
    for (int x = 0; x < cols; x += window > 1 ? 1 : 4) {
      const int8_t *from = in + y * c->pool_row_step + x * c->pool_col_step;
      int8_t *to = out + y * c->out_line + x * c->out_step + k;
#define LEAST(b) int32x4_t best##b = vdupq_n_s32(INT32_MIN);
      EACH_BLOCK(LEAST)
      for (int p = 0; p < window; p += 4) {
#define START(t, b) int32x4_t sum##t##b = bias##b;
#define STARTS(b) EACH_POSITION(START, b)
        EACH_BLOCK(STARTS)
#define PLACE(t, ignored)                                                                          \
  const int p##t = p + t < window ? p + t : window - 1, x##t = x + t < last ? t : last - x;        \
  const int8_t *from##t =                                                                          \
      from + (window > 1 ? p##t / c->pool_cols * c->row_step + p##t % c->pool_cols * c->col_step   \
                         : x##t * c->pool_col_step);
        EACH_POSITION(PLACE, )
        const int8_t *w = c->weights + 4 * k;
        if (c->run_groups > 1) __asm__("" : "+r"(w)); /* in a register, not again and again */
        for (int r = 0; r < c->run_rows; r++)
          for (int s = 0; s < c->run_cols; s++) {
            const int8_t *next = w + 4 * c->run_groups * c->padded;
            int at = r * c->run_row_step + s * c->run_col_step;
            for (int g = 0; g < c->run_groups; g += 4, at += 16, w += 16 * c->padded) {
#define INPUTS(t, ignored) const int8x16_t inputs##t = vld1q_s8(from##t + at);
              EACH_POSITION(INPUTS, )
#define ADD(b, lane)                                                                               \
  if (b < blocks) {                                                                                \
    const int8x16_t weights = vld1q_s8(w + lane * 4 * c->padded + 16 * b);                         \
    ADD_DOT(sum0##b, weights, inputs0, lane);                                                      \
    ADD_DOT(sum1##b, weights, inputs1, lane);                                                      \
    ADD_DOT(sum2##b, weights, inputs2, lane);                                                      \
    ADD_DOT(sum3##b, weights, inputs3, lane);                                                      \
  }
#define ADD_GROUP(lane)                                                                            \
  if (lane < c->run_groups - g) { ADD(0, lane) ADD(1, lane) ADD(2, lane) ADD(3, lane) }
              ADD_GROUP(0) ADD_GROUP(1) ADD_GROUP(2) ADD_GROUP(3)
            }
            w = next;
          }
#define SCALE(sum, b) scale_four_twice(sum, multiplier##b, shift##b, plain)
        if (window > 1) {
#define KEEP(b)                                                                                    \
  best##b = vmaxq_s32(best##b, vmaxq_s32(vmaxq_s32(sum0##b, sum1##b), vmaxq_s32(sum2##b, sum3##b)));
          EACH_BLOCK(KEEP)
        } else {
#define STORE(t, ignored)                                                                          \
  store_bytes(to + x##t * c->out_step,                                                             \
              clamp_all(SCALE(sum##t##0, 0), SCALE(sum##t##1, 1), SCALE(sum##t##2, 2),             \
                        SCALE(sum##t##3, 3), c->zero, c->low, c->high),                            \
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
#undef LOAD
#undef LEAST
#undef START
#undef STARTS
#undef PLACE
#undef INPUTS
#undef ADD
#undef ADD_GROUP
#undef SCALE
#undef KEEP
#undef STORE
}

/* Any convolution, by dot products of four inputs. Lanes are filters; four positions share each
 * load of weights.
 */
KERNEL void convolve(const struct convolution *c, const int8_t *in, int8_t *out) {
  /* Without a border and a pool, the positions are one long row. */
  const int is_flat = c->pool_rows * c->pool_cols == 1 && c->row_step == c->cols * c->col_step &&
                      c->out_line == c->cols * c->out_step;
  const int rows = is_flat ? 1 : c->rows, cols = is_flat ? c->rows * c->cols : c->cols;
  int k = 0;
  for (; k + 16 <= c->padded; k += 16)
    convolve_filters(c, in, out, k, rows, cols, 4);
  const int rest = (c->padded - k) / 4;
  if (rest == 1) convolve_filters(c, in, out, k, rows, cols, 1);
  if (rest == 2) convolve_filters(c, in, out, k, rows, cols, 2);
  if (rest == 3) convolve_filters(c, in, out, k, rows, cols, 3);
}
