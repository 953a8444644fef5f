/* Store the first `count` lanes, or all if there are not as many. */
INLINE void store_part(float *to, vec value, int count) {
  if (count >= LANES)
    store(to, value);
  else
    memcpy(to, &value, (size_t)count * sizeof *to);
}
