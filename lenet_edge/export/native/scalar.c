typedef float vec;

INLINE vec load(const float *from) { return *from; }
INLINE vec load_int8(const int8_t *from) { return (float)*from; }
INLINE void store(float *to, vec value) { *to = value; }
INLINE vec larger(vec a, vec b) { return a > b ? a : b; }
INLINE void take_every_fourth(const float *from, float *to) {
  for (int i = 0; i < 8; i++)
    to[i] = from[4 * i];
}
