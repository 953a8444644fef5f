typedef float vec;

INLINE vec load(const float *from) { return *from; }
INLINE void store(float *to, vec value) { *to = value; }
INLINE vec larger(vec a, vec b) { return a > b ? a : b; }
