/* Fill the border of a tensor, which convolutions read as padding: `rows` rows of `inside` bytes,
 * `line` bytes apart. `before` bytes lie before the first one, and `after` behind the last one.
 */
KERNEL void fill(void *tensor, int rows, size_t line, size_t inside, size_t before, size_t after,
                 int value) {
  char *to = (char *)tensor;
  memset(to, value, before);
  to += before + inside;
  for (int y = 1; y < rows; y++, to += line)
    memset(to, value, line - inside);
  memset(to, value, after);
}
