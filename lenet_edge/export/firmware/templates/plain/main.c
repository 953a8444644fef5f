/* Program of the board: the self-test, then the serial protocol. */
#include "board.h"
#include "firmware_cycles.h"
#include "firmware.h"

static int has_cycles;

int firmware_read(void) { return uart_read(); }

void firmware_write(const uint8_t *bytes, size_t count) {
  while (count--)
    uart_write(*bytes++);
}

uint32_t firmware_count(void) { return has_cycles ? cycles_read() : systick_read(); }

int main(void) {
  uart_start();
  has_cycles = cycles_start();
  if (!has_cycles)
    systick_start();
  firmware_start(has_cycles ? FIRMWARE_DWT_CYCLES : FIRMWARE_SYSTICK_CYCLES, CLOCK_HZ);
  firmware_test();
  for (;;)
    firmware_poll();
}
