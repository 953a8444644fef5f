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

/* `blocks` vectors of outputs, one input after the other. weights[input][output]. */
INLINE void dense_block(const float *in, const int *places, int found, const WEIGHT *weights,
                        int padded, int blocks, const float *scales, const float *bias, int relu,
                        float *out) {
#define START(b) vec sum##b = {0};
  EIGHT(START)
  for (int n = 0; n < found; n++) {
    const WEIGHT *w = weights + places[n] * padded;
    const float value = in[places[n]];
#define MULTIPLY(b)                                                                                \
  if (b < blocks) sum##b += value * load_weights(w + b * LANES);
    EIGHT(MULTIPLY)
  }
#define FINISH(b)                                                                                  \
  if (b < blocks) {                                                                                \
    if (scales) sum##b *= load(scales + b * LANES);                                                \
    sum##b += load(bias + b * LANES);                                                              \
    store(out + b * LANES, relu ? larger(sum##b, (vec){0}) : sum##b);                              \
  }
  EIGHT(FINISH)
#undef START
#undef MULTIPLY
#undef FINISH
}

/* A dense layer. Lanes are outputs, padded to `padded`. */
INLINE void dense(const float *in, int count, const WEIGHT *weights, const float *scales,
                  const float *bias, int padded, int relu, int *places, float *out) {
  const int found = find_nonzero(in, count, places), whole = padded / (8 * LANES) * (8 * LANES);
  for (int k = 0; k < whole; k += 8 * LANES)
    dense_block(in, places, found, weights + k, padded, 8, scales ? scales + k : scales, bias + k, relu,
                out + k);
  if (whole < padded)
    dense_block(in, places, found, weights + whole, padded, (padded - whole) / LANES,
                scales ? scales + whole : scales, bias + whole, relu, out + whole);
}
