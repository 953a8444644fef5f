/* Boards of the stubs: bytes go to standard output, and none arrive. */
#include <stdint.h>
#include <stdio.h>

struct device {
  int number;
};
const struct device stub_console = {0};

/* Write a byte at once, because the program never ends. */
static void put(int byte) {
  fputc(byte, stdout);
  fflush(stdout);
}
int uart_poll_in(const struct device *uart, unsigned char *byte) { return (void)uart, (void)byte, -1; }
void uart_poll_out(const struct device *uart, unsigned char byte) { (void)uart, put(byte); }
int stub_put(int byte) { return put(byte), byte; }
