/* Program of the board: the self-test, then the serial protocol, on the UART of the console. */
#include <zephyr/device.h>
#include <zephyr/drivers/uart.h>
#include <zephyr/kernel.h>

#include "firmware.h"
#include "firmware_cycles.h"

static const struct device *const uart = DEVICE_DT_GET(DT_CHOSEN(zephyr_console));
static int has_cycles;

int firmware_read(void) {
  unsigned char byte;
  return uart_poll_in(uart, &byte) == 0 ? byte : -1;
}

void firmware_write(const uint8_t *bytes, size_t count) {
  while (count--)
    uart_poll_out(uart, *bytes++);
}

uint32_t firmware_count(void) {
  return has_cycles ? cycles_read() : (uint32_t)k_cyc_to_us_floor64(k_cycle_get_32());
}

int main(void) {
  if (!device_is_ready(uart))
    return 1;
  has_cycles = cycles_start();
  /* The clock of the processor is not the one that Zephyr's timer counts, so it is unknown here. */
  if (has_cycles)
    firmware_start(FIRMWARE_DWT_CYCLES, 0);
  else
    firmware_start(FIRMWARE_MICROSECONDS, 1000000);
  firmware_test();
  for (;;)
    firmware_poll();
}
