/* The mean over some axes. */
KERNEL void mean_float(const struct mean_float *m, const float *in, float *out) {
  for (int i = 0; i < m->sizes[0]; i++)
    for (int j = 0; j < m->sizes[1]; j++)
      for (int k = 0; k < m->sizes[2]; k++) {
        const float *from = in + i * m->in_steps[0] + j * m->in_steps[1] + k * m->in_steps[2];
        float sum = 0.0f;
        for (int a = 0; a < m->over[0]; a++)
          for (int b = 0; b < m->over[1]; b++)
            for (int c = 0; c < m->over[2]; c++)
              sum += from[a * m->over_steps[0] + b * m->over_steps[1] + c * m->over_steps[2]];
        out[i * m->out_steps[0] + j * m->out_steps[1] + k * m->out_steps[2]] = sum / m->count;
      }
}
