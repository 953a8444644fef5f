/* Read inputs from standard input, and write the outputs of the network to standard output. It runs
 * as often for each input as the first argument says. Build it with -include NET.h -DNET=lenet
 * -DINPUTS=784 -DOUTPUTS=10 -DKIND=float
 */
#include <stdio.h>
#include <stdlib.h>

int main(int count, char **arguments) {
  static KIND in[INPUTS], out[OUTPUTS];
  const int runs = count > 1 ? atoi(arguments[1]) : 1;
  while (fread(in, sizeof in, 1, stdin) == 1) {
    for (int n = 0; n < runs; n++)
      NET(in, out);
    fwrite(out, sizeof out, 1, stdout);
  }
  return 0;
}
