/* 16550 UART of the SmartFusion2. Source: Microchip, SmartFusion2 MSS User Guide, MMUART. */
#include "board.h"

enum { DATA = 0, FIFO = 8, LINE = 12, STATUS = 20 };

void uart_start(void) {
  REGISTER(UART + LINE) = 0x83; /* 8 bits, with access to the divider */
  REGISTER(UART + DATA) = CLOCK_HZ / (16u * BAUD);
  REGISTER(UART + LINE) = 0x03;
  REGISTER(UART + FIFO) = 1;
}

int uart_read(void) {
  return REGISTER(UART + STATUS) & 1 ? (int)(REGISTER(UART + DATA) & 0xFF) : -1;
}

void uart_write(uint8_t byte) {
  while (!(REGISTER(UART + STATUS) & 0x20))
    ;
  REGISTER(UART + DATA) = byte;
}
