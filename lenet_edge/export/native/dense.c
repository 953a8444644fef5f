/* The places of what is not zero: after a ReLU, a zero spares a whole row of weights. */
INLINE int find_nonzero(const float *in, int count, int *places) {
  int found = 0;
  UNROLL(4)
  for (int n = 0; n < count; n++) {
    uint32_t bits; /* whole numbers are compared sooner than floats */
    memcpy(&bits, in + n, sizeof bits);
    places[found] = n;
    found += (bits << 1) != 0; /* without the sign: -0 is zero too */
  }
  return found;
}

/* How many sums are made at a time; of vectors of four, browsers keep no more in registers. */
#if LANES == 4 && !defined(__ARM_NEON)
#define MOST 6
#define EACH(DO) FIVE(DO) DO(5)
#else
#define MOST 8
#define EACH(DO) FIVE(DO) DO(5) DO(6) DO(7)
#endif

/* `blocks` vectors of outputs, one input after the other. weights[input][output]. */
INLINE void dense_block(const float *in, const int *places, int found, const WEIGHT *weights,
                        int padded, int blocks, const float *scales, const float *bias, int relu,
                        float *out) {
#define START(b) vec sum##b = {0};
  EACH(START)
  for (int n = 0; n < found; n++) {
    const WEIGHT *w = weights + places[n] * padded;
    const float value = in[places[n]];
#define MULTIPLY(b)                                                                                \
  if (b < blocks) sum##b += value * load_weights(w + b * LANES);
    EACH(MULTIPLY)
  }
#define FINISH(b)                                                                                  \
  if (b < blocks) {                                                                                \
    if (scales) sum##b *= load(scales + b * LANES);                                                \
    sum##b += load(bias + b * LANES);                                                              \
    store(out + b * LANES, relu ? larger(sum##b, (vec){0}) : sum##b);                              \
  }
  EACH(FINISH)
#undef START
#undef MULTIPLY
#undef FINISH
}

/* A dense layer. Lanes are outputs, padded to `padded`. */
INLINE void dense(const float *in, int count, const WEIGHT *weights, const float *scales,
                  const float *bias, int padded, int relu, int *places, float *out) {
  const int found = find_nonzero(in, count, places), whole = padded - padded % (MOST * LANES);
  for (int k = 0; k < whole; k += MOST * LANES)
    dense_block(in, places, found, weights + k, padded, MOST, scales ? scales + k : scales, bias + k, relu,
                out + k);
  if (whole < padded)
    dense_block(in, places, found, weights + whole, padded, (padded - whole) / LANES,
                scales ? scales + whole : scales, bias + whole, relu, out + whole);
}
#undef MOST
#undef EACH
