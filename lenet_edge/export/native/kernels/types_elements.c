/* A walk over three tensors: three nested loops around `count` neighbours. A tensor that is
 * repeated along an axis has a step of zero.
 */
struct elements {
  int sizes[3], a_steps[3], b_steps[3], out_steps[3];
  int count, a_step, b_step;
  int32_t a_zero, b_zero, zero, low, high;
  int32_t a_multiplier, b_multiplier, multiplier;
  int a_shift, b_shift, shift;
};
