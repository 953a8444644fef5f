/* Two convolutions of 3 x 3, each with a max-pool of 2 x 2 behind it.
 *
 * A pool of 2 x 2 needs a tile of 2 x 2 convolved values, and those come from 4 x 4 inputs: what
 * Winograd's F(2 x 2, 3 x 3) makes with 16 multiplications instead of 36. A tile's four values are
 * pooled where they are, in registers; they are never stored.
 */

/* The 4 x 4 inputs of a tile (one tile in each lane) in Winograd's form. */
INLINE void transform(const vec from[16], vec to[16]) {
  vec half[16];
  UNROLL(4)
  for (int c = 0; c < 4; c++) {
    half[c] = from[c] - from[8 + c];
    half[4 + c] = from[4 + c] + from[8 + c];
    half[8 + c] = from[8 + c] - from[4 + c];
    half[12 + c] = from[4 + c] - from[12 + c];
  }
  UNROLL(4)
  for (int r = 0; r < 16; r += 4) {
    to[r] = half[r] - half[r + 2];
    to[r + 1] = half[r + 1] + half[r + 2];
    to[r + 2] = half[r + 2] - half[r + 1];
    to[r + 3] = half[r + 1] - half[r + 3];
  }
}

/* Put pixels that are four apart side by side, so that the lanes of a vector are four apart:
 * planes[r][c][q][s] = image[4 q + r][4 s + c], with r below 4 and c below 6 (two columns twice).
 */
INLINE void split_image(const float *image, int height, int width, int rows, int cols,
                        float *planes, int size) {
  for (int y = 0; y < 4 * rows + 2; y++)
    for (int c = 0; c < 6; c++) {
      const float *from = image + y * width + c;
      float *to = planes + (y % 4 * 6 + c) * size + y / 4 * cols;
      int s = 0;
      for (; s + 4 <= cols && y * width + c + 4 * s + 32 <= height * width; s += 8)
        take_every_fourth(from + 4 * s, to + s); /* too many are overwritten by the next row */
      for (; s < cols; s++)
        to[s] = from[4 * s];
    }
}

/* The first convolution, of one channel. Lanes are tiles. The pooled values are again split, into
 * even and odd rows and columns: out[r][c][filter][q][s] is row 2 q + r, column 2 s + c.
 */
INLINE void convolve_image(const float *planes, int size, int rows, int cols, int filters,
                           const float *weights, const float *bias, int relu, float *out,
                           int out_size) {
  const int count = rows * cols;
  for (int part = 0; part < 4; part++)
    for (int at = 0; at < count; at += LANES) {
      const int first = at + LANES <= count ? at : count - LANES; /* the last ones overlap */
      vec pixels[16], tile[16];
      UNROLL(16)
      for (int p = 0; p < 16; p++) {
        const int r = part / 2 * 2 + p / 4, c = part % 2 * 2 + p % 4;
        pixels[p] = load(planes + (r % 4 * 6 + c) * size + r / 4 * cols + first);
      }
      transform(pixels, tile);
      for (int k = 0; k < filters; k++) {
        const float *w = weights + 16 * k;
        vec top[4], low[4];
        UNROLL(4)
        for (int c = 0; c < 4; c++) {
          const vec one = tile[4 + c] * w[4 + c];
          const vec sum = one + tile[8 + c] * w[8 + c], rest = one - tile[8 + c] * w[8 + c];
          top[c] = sum + tile[c] * w[c];
          low[c] = rest - tile[12 + c] * w[12 + c];
        }
        vec best = larger(
            larger(top[0] + (top[1] + top[2]), top[1] - top[2] - top[3]),
            larger(low[0] + (low[1] + low[2]), low[1] - low[2] - low[3]));
        best += bias[k];
        store(out + (part * filters + k) * out_size + first, relu ? larger(best, (vec){0}) : best);
      }
    }
}

/* The tiles of the second convolution in Winograd's form: tiles[point][channel][tile]. */
INLINE void tiles_of(const float *planes, int size, int channels, int tile_rows, int tile_cols,
                     float *tiles, int tiles_size) {
  const int cols = tile_cols + 1, count = tile_rows * cols - 1;
  for (int k = 0; k < channels; k++)
    for (int at = 0; at < count; at += LANES) {
      const int first = at + LANES <= count ? at : count - LANES;
      vec values[16], tile[16];
      UNROLL(16)
      for (int p = 0; p < 16; p++) {
        const int r = p / 4, c = p % 4;
        values[p] = load(planes + ((r % 2 * 2 + c % 2) * channels + k) * size + r / 2 * cols +
                         c / 2 + first);
      }
      transform(values, tile);
      UNROLL(16)
      for (int p = 0; p < 16; p++)
        store(tiles + (p * channels + k) * tiles_size + first, tile[p]);
    }
}

/* The second convolution. Lanes are filters; five tiles share each load of weights.
 * weights[point][channel][filter], with the filters padded to `padded`.
 */
INLINE void convolve_tiles(const float *tiles, int tiles_size, int channels, int tile_rows,
                           int tile_cols, int filters, int padded, const float *weights,
                           const float *bias, int relu, float *out) {
  for (int k = 0; k < filters; k += LANES)
    for (int y = 0; y < tile_rows; y++)
      for (int x = 0; x < tile_cols; x += 5) {
        const int first = x + 5 <= tile_cols ? x : tile_cols - 5;
        const float *from = tiles + y * (tile_cols + 1) + first;
#define DECLARE(t) vec a##t = {0}, b##t = {0}, c##t = {0}, d##t = {0};
        FIVE(DECLARE)
        UNROLL(4)
        for (int j = 0; j < 4; j++) {
#define START(t) vec top##t = {0}, low##t = {0};
          FIVE(START)
          UNROLL(4)
          for (int i = 0; i < 4; i++) {
            const float *w = weights + (4 * i + j) * channels * padded + k;
            const float *v = from + (4 * i + j) * channels * tiles_size;
#define CLEAR(t) vec sum##t = {0};
            FIVE(CLEAR)
            UNROLL(1) /* or GCC makes more code of it than is fast */
            for (int n = 0; n < channels; n++) {
              const vec weight = load(w + n * padded);
#define MULTIPLY(t) sum##t += weight * v[n * tiles_size + t];
              FIVE(MULTIPLY)
            }
#define ROW(t)                                                                                     \
  if (i < 3) top##t += sum##t;                                                                     \
  if (i == 1) low##t += sum##t;                                                                    \
  if (i > 1) low##t -= sum##t;
            FIVE(ROW)
          }
#define COLUMN(t)                                                                                  \
  if (j < 3) a##t += top##t, c##t += low##t;                                                       \
  if (j == 1) b##t += top##t, d##t += low##t;                                                      \
  if (j > 1) b##t -= top##t, d##t -= low##t;
          FIVE(COLUMN)
        }
        const vec offset = load(bias + k);
#define FINISH(t)                                                                                  \
  {                                                                                                \
    const vec best = larger(larger(a##t, b##t), larger(c##t, d##t)) + offset;                      \
    store_part(out + (y * tile_cols + first + t) * filters + k,                                    \
               relu ? larger(best, (vec){0}) : best, filters - k);                                 \
  }
        FIVE(FINISH)
#undef DECLARE
#undef START
#undef CLEAR
#undef MULTIPLY
#undef ROW
#undef COLUMN
#undef FINISH
      }
}
