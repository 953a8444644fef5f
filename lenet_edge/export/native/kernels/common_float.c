/* Tensors of floats have the same layout; their steps count floats. */
#define FLOATS(bytes) ((float *)(void *)(bytes))
#define INFINITY_F (1.0f / 0.0f)

struct convolution_float {              /* weights [run][n][filter] */
  int rows, cols, filters, run_rows, run_cols, run_row_step, run_col_step, run_bytes;
  int row_step, col_step, pool_rows, pool_cols, pool_row_step, pool_col_step, out_line, out_step;
  float low, high;
  const float *weights, *bias;
};

struct depthwise_float {                /* weights [row][column][channel] */
  int rows, cols, channels, multiplier, kernel_rows, kernel_cols, kernel_row_step, kernel_col_step;
  int row_step, col_step, out_line, out_step;
  float low, high;
  const float *weights, *bias;
};

struct dense_float {                    /* weights [input][output] */
  int inputs, outputs;
  float low, high;
  const float *weights, *bias;
};

struct elements_float {
  int sizes[3], a_steps[3], b_steps[3], out_steps[3];
  int count, a_step, b_step;
  float low, high;
};

struct pool_float {
  int rows, cols, channels, in_rows, in_cols;
  int window_rows, window_cols, stride_rows, stride_cols, above, left;
  int in_line, in_step, out_line, out_step;
  float low, high;
};

struct mean_float {
  int sizes[3], in_steps[3], out_steps[3], over[3], over_steps[3];
  float count;
};

INLINE float limit(float value, float low, float high) {
  return value < low ? low : value > high ? high : value;
}

/* e to the power of a float, within two units in the last place. */
INLINE float exponential(float value) {
  if (!(value > -87.0f))
    return value <= -87.0f ? 0.0f : value;
  if (value > 88.7f)
    return INFINITY_F;
  const int32_t whole = (int32_t)(value * 1.44269504f + (value < 0.0f ? -0.5f : 0.5f));
  const float times = (float)whole, x = (value - times * 0.693359375f) + times * 2.12194440e-4f;
  const float power =
      1.0f + x * (1.0f + x * (0.5f + x * (1.6666667e-1f + x * (4.1666420e-2f +
             x * (8.3334519e-3f + x * 1.3981999e-3f)))));
  const uint32_t half_bits = (uint32_t)(whole / 2 + 127) << 23;
  const uint32_t rest_bits = (uint32_t)(whole - whole / 2 + 127) << 23;
  float half, rest;
  memcpy(&half, &half_bits, sizeof half);
  memcpy(&rest, &rest_bits, sizeof rest);
  return power * half * rest;
}
