/* Test driver: reads images from standard input and writes their logits to standard output. Each
 * image has its own buffer of the exact size, so that a sanitizer detects accesses outside it.
 * Build it with -include NET.h -DNET=lenet -DPIXELS=784 -DCLASSES=10 -DKIND=float
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JOIN(a, b) a##b
#define BATCH(name) JOIN(name, _batch)

int main(void) {
  KIND image[PIXELS];
  while (fread(image, sizeof image, 1, stdin) == 1) {
    KIND *in = malloc(sizeof image), *out = malloc(CLASSES * sizeof *out);
    KIND *again = malloc(CLASSES * sizeof *again);
    if (!in || !out || !again)
      return 1;
    memcpy(in, image, sizeof image);
    NET(in, out);
    BATCH(NET)(in, again, 1);
    if (memcmp(out, again, CLASSES * sizeof *out) != 0)
      return 2;
    fwrite(out, sizeof *out, CLASSES, stdout);
    free(in);
    free(out);
    free(again);
  }
  return 0;
}
