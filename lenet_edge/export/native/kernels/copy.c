/* Copy a tensor, or a part of one, into another layout. `count` is in bytes. */
KERNEL void copy(const struct walk *w, const void *in, void *out) {
  for (int a = 0; a < w->sizes[0]; a++)
    for (int b = 0; b < w->sizes[1]; b++)
      for (int c = 0; c < w->sizes[2]; c++)
        memcpy((char *)out + a * w->out_steps[0] + b * w->out_steps[1] + c * w->out_steps[2],
               (const char *)in + a * w->in_steps[0] + b * w->in_steps[1] + c * w->in_steps[2],
               (size_t)w->count);
}
