/* Between uint8 and int8: both count from the other end of the range, 128 apart. */
KERNEL void flip(const struct walk *w, const void *in, void *out) {
  for (int a = 0; a < w->sizes[0]; a++)
    for (int b = 0; b < w->sizes[1]; b++)
      for (int c = 0; c < w->sizes[2]; c++) {
        const uint8_t *from = (const uint8_t *)in + a * w->in_steps[0] + b * w->in_steps[1] +
                              c * w->in_steps[2];
        uint8_t *to = (uint8_t *)out + a * w->out_steps[0] + b * w->out_steps[1] +
                      c * w->out_steps[2];
        for (int n = 0; n < w->count; n++)
          to[n] = from[n] ^ 0x80;
      }
}
