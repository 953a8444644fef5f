/* UART of Arm's MPS2 and MPS3 boards. Source: Arm, Cortex-M System Design Kit, APB UART. */
#include "board.h"

enum { DATA = 0, STATE = 4, CONTROL = 8, DIVIDER = 16 };

void uart_start(void) {
  REGISTER(UART + DIVIDER) = CLOCK_HZ / BAUD;
  REGISTER(UART + CONTROL) = 3; /* transmit and receive */
}

int uart_read(void) { return REGISTER(UART + STATE) & 2 ? (int)(REGISTER(UART + DATA) & 0xFF) : -1; }

void uart_write(uint8_t byte) {
  while (REGISTER(UART + STATE) & 1)
    ;
  REGISTER(UART + DATA) = byte;
}
