typedef float vec __attribute__((vector_size(4 * LANES)));
typedef float loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t mask __attribute__((vector_size(4 * LANES)));

INLINE vec load(const float *from) { return *(const loose *)from; }
INLINE void store(float *to, vec value) { *(loose *)to = value; }
INLINE vec larger(vec a, vec b) {
#ifdef __wasm_simd128__ /* one instruction for three */
  return (vec)__builtin_wasm_pmax_f32x4(b, a);
#else
  const mask of_a = a > b;
  return (vec)(((mask)a & of_a) | ((mask)b & ~of_a));
#endif
}
