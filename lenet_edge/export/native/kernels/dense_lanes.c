#ifdef INT4
typedef int16_t int16s __attribute__((vector_size(sizeof(lanes))));

/* The lower halves of all bytes as weights times 16, and the upper halves. */
INLINE lanes lower(lanes both, int words) {
  const int16_t half = (int16_t)0xF0F0;
  return words ? (lanes)((int16s)both << 12 >> 8) : (lanes)((int16s)both << 4 & half);
}
INLINE lanes upper(lanes both, int words) {
  const int16_t half = (int16_t)(words ? 0xFFF0 : 0xF0F0);
  return (lanes)((int16s)both & half);
}

#endif
/* Up to eight vectors of outputs; words take two vectors for as many outputs. */
INLINE void dense_block(const struct dense *d, const int8_t *in, int k, int vectors, int words,
                        int8_t *out) {
  const int8_t *w = d->weights + 4 * k;
  const int step = words ? 2 * OUTPUTS : 4 * OUTPUTS;
#define START(b) lanes s##b = {0};
  EIGHT(START)
  UNROLL(1)
#ifdef INT4
  for (int g = 0; g < d->groups; g += 2, w += 4 * d->padded) {
    const lanes x = splat_input(in + 4 * g, d->in_low, words);
    const lanes y = splat_input(in + 4 * g + 4, d->in_low, words);
#define MULTIPLY(b)                                                                                \
  if (b < vectors) {                                                                               \
    const lanes both = load_weights(w + step * b, words);                                          \
    s##b = dot(dot(s##b, x, lower(both, words), words), y, upper(both, words), words);             \
  }
#else
  for (int g = 0; g < d->groups; g++, w += 4 * d->padded) {
    const lanes x = splat_input(in + 4 * g, d->in_low, words);
#define MULTIPLY(b) if (b < vectors) s##b = dot(s##b, x, load_weights(w + step * b, words), words);
#endif
    EIGHT(MULTIPLY)
  }
#define FINISH(b, sum, at)                                                                         \
  if (b < vectors)                                                                                 \
    store_bytes(ONCE(sum, d, at, words), d->low, d->high, out + at, d->outputs - (at));
#define FINISH_BYTES(b) FINISH(b, s##b, k + OUTPUTS * b)
  if (words) {
    FINISH(0, total(s0, s1), k)
    FINISH(2, total(s2, s3), k + OUTPUTS)
    FINISH(4, total(s4, s5), k + 2 * OUTPUTS)
    FINISH(6, total(s6, s7), k + 3 * OUTPUTS)
  } else {
    EIGHT(FINISH_BYTES)
  }
#undef START
#undef MULTIPLY
#undef FINISH
#undef FINISH_BYTES
}

/* A dense layer. Each group of four inputs meets up to eight vectors of weights. */
KERNEL void dense(const struct dense *d, const int8_t *in, int8_t *out) {
  int k = 0;
#define TAIL(n) case n: dense_block(d, in, k, n, WORDS, out); break;
#define WORDS 1
  if (needs_words(d->in_low)) {
    for (; k + 7 * OUTPUTS / 2 < d->outputs; k += 4 * OUTPUTS)
      dense_block(d, in, k, 8, 1, out);
    switch ((d->outputs - k + OUTPUTS / 2 - 1) / (OUTPUTS / 2)) {
      TAIL(1) TAIL(2) TAIL(3) TAIL(4) TAIL(5) TAIL(6) TAIL(7)
    }
    return;
  }
#undef WORDS
#define WORDS 0
  for (; k + 7 * OUTPUTS < d->outputs; k += 8 * OUTPUTS)
    dense_block(d, in, k, 8, 0, out);
  switch ((d->outputs - k + OUTPUTS - 1) / OUTPUTS) {
    TAIL(1) TAIL(2) TAIL(3) TAIL(4) TAIL(5) TAIL(6) TAIL(7)
  }
#undef WORDS
#undef TAIL
}
