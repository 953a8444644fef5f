/* The mean over some axes. The multiplier holds the division too. */
KERNEL void mean(const struct mean *m, const int8_t *in, int8_t *out) {
  for (int i = 0; i < m->sizes[0]; i++)
    for (int j = 0; j < m->sizes[1]; j++)
      for (int k = 0; k < m->sizes[2]; k++) {
        const int8_t *from = in + i * m->in_steps[0] + j * m->in_steps[1] + k * m->in_steps[2];
        int32_t sum = m->bias;
        for (int a = 0; a < m->over[0]; a++)
          for (int b = 0; b < m->over[1]; b++)
            for (int c = 0; c < m->over[2]; c++)
              sum += from[a * m->over_steps[0] + b * m->over_steps[1] + c * m->over_steps[2]];
        out[i * m->out_steps[0] + j * m->out_steps[1] + k * m->out_steps[2]] =
            clamp(scale_twice(sum, m->multiplier, m->shift) + m->zero, m->low, m->high);
      }
}
