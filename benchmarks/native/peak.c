/* The peak of one core: float multiply-adds, and reads from the L2 cache.
 * Prints 10^9 multiply-adds per second and 10^9 bytes per second. Build: cc -O3 -march=native
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
#define ROUNDS 4000  /* about 15 microseconds */
#define FLOATS 49152 /* 192 kB: the largest layer of LeNet, larger than an L1 cache */

typedef float vec __attribute__((vector_size(4 * LANES)));
static float memory[FLOATS] __attribute__((aligned(64)));

static double now(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (double)at.tv_sec + 1e-9 * (double)at.tv_nsec;
}

int main(void) {
  double compute_s = 1, read_s = 1;
  for (int run = 0; run < 400; run++) {
    vec sums[CHAINS] = {{0}}, factor = {1.0f}, term = {0.5f};
    double begin = now();
    for (int n = 0; n < ROUNDS; n++)
#pragma GCC unroll 12
      for (int c = 0; c < CHAINS; c++) {
        sums[c] = sums[c] * factor + term;
        __asm__ volatile("" : "+" REGISTER(sums[c]));
      }
    double seconds = now() - begin;
    compute_s = seconds < compute_s ? seconds : compute_s;

    vec a = {0}, b = {0}, c = {0}, d = {0};
    begin = now();
    for (int n = 0; n < FLOATS; n += 4 * LANES) {
      const vec *from = (const vec *)(memory + n);
      a += from[0], b += from[1], c += from[2], d += from[3];
    }
    __asm__ volatile("" ::REGISTER(a + b + c + d));
    seconds = now() - begin;
    read_s = seconds < read_s ? seconds : read_s;
  }
  printf("%.2f %.2f\n", (double)CHAINS * ROUNDS * LANES / compute_s / 1e9,
         sizeof memory / read_s / 1e9);
  return 0;
}
