/* What a core of this machine can do at most: float multiply-adds, and reading from the L2 cache.
 * Prints two numbers: 10^9 multiply-adds a second, 10^9 bytes a second. cc -O3 -march=native
 */
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <time.h>

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#if defined(__x86_64__)
#define REGISTER "v"
#else
#define REGISTER "w"
#endif
#define CHAINS 12    /* enough to hide the latency of a multiply-add */
#define ROUNDS 4000  /* some 15 microseconds */
#define FLOATS 49152 /* 192 kB, the largest layer of LeNet: more than an L1 holds */

typedef float vec __attribute__((vector_size(4 * LANES)));
static float memory[FLOATS] __attribute__((aligned(64)));

static double now(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (double)at.tv_sec + 1e-9 * (double)at.tv_nsec;
}

int main(void) {
  double fastest = 1, soonest = 1;
  for (int run = 0; run < 400; run++) {
    vec sums[CHAINS] = {{0}}, factor = {1.0f}, term = {0.5f};
    double begin = now();
    for (int n = 0; n < ROUNDS; n++)
#pragma GCC unroll 12
      for (int c = 0; c < CHAINS; c++) {
        sums[c] = sums[c] * factor + term;
        __asm__ volatile("" : "+" REGISTER(sums[c]));
      }
    double taken = now() - begin;
    fastest = taken < fastest ? taken : fastest;

    vec a = {0}, b = {0}, c = {0}, d = {0};
    begin = now();
    for (int n = 0; n < FLOATS; n += 4 * LANES) {
      const vec *from = (const vec *)(memory + n);
      a += from[0], b += from[1], c += from[2], d += from[3];
    }
    __asm__ volatile("" ::REGISTER(a + b + c + d));
    taken = now() - begin;
    soonest = taken < soonest ? taken : soonest;
  }
  printf("%.2f %.2f\n", (double)CHAINS * ROUNDS * LANES / fastest / 1e9,
         sizeof memory / soonest / 1e9);
  return 0;
}
