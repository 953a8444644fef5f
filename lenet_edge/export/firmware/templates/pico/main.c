/* Program of the board: the self-test, then the serial protocol, on USB.
 *
 * The SDK's stacks have at most 4,096 bytes. The network runs on the second core instead, which
 * takes a stack of any size.
 */
#include "firmware.h"
#include "firmware_cycles.h"
#include "hardware/clocks.h"
#include "pico/multicore.h"
#include "pico/stdlib.h"

static int has_cycles;
static uint32_t stack[STACK_BYTES / 4] __attribute__((aligned(16)));

int firmware_read(void) {
  const int byte = getchar_timeout_us(0);
  return byte < 0 ? -1 : byte;
}

void firmware_write(const uint8_t *bytes, size_t count) {
  while (count--)
    putchar_raw(*bytes++);
}

uint32_t firmware_count(void) { return has_cycles ? cycles_read() : time_us_32(); }

static void serve(void) {
  has_cycles = cycles_start();
  if (has_cycles)
    firmware_start(FIRMWARE_DWT_CYCLES, clock_get_hz(clk_sys));
  else
    firmware_start(FIRMWARE_MICROSECONDS, 1000000);
  firmware_test();
  for (;;)
    firmware_poll();
}

int main(void) {
  stdio_init_all();
  multicore_launch_core1_with_stack(serve, stack, sizeof stack);
  for (;;)
    tight_loop_contents();
}
