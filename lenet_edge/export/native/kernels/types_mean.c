/* The mean over some axes. The multiplier holds the division too. */
struct mean {
  int sizes[3], in_steps[3], out_steps[3]; /* of the axes that stay */
  int over[3], over_steps[3];              /* of the axes that go */
  int32_t bias, multiplier;
  int shift;
  int32_t zero, low, high;
};
