/* to[i] = from[4 i], eight of them, of 32 that may be read. */
INLINE void take_every_fourth(const float *from, float *to) {
#if CAN_SHUFFLE
  typedef float eight __attribute__((vector_size(32), aligned(4), may_alias));
  typedef float sixteen __attribute__((vector_size(64), aligned(4), may_alias));
  const sixteen *both = (const sixteen *)from;
  *(eight *)to = __builtin_shufflevector(both[0], both[1], 0, 4, 8, 12, 16, 20, 24, 28);
#else
  for (int i = 0; i < 8; i++)
    to[i] = from[4 * i];
#endif
}
