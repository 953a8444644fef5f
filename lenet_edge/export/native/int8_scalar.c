INLINE vec load_int8(const int8_t *from) { return (float)*from; }
