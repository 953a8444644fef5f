/* Add the products of four inputs and the weights of four outputs. As assembly, because headers of
 * older compilers offer this instruction only if the whole file may use it.
 */
#define ADD_DOT(sum, weights, inputs, lane)                                                        \
  __asm__("sdot %0.4s, %1.16b, %2.4b[" #lane "]" : "+w"(sum) : "w"(weights), "w"(inputs))
