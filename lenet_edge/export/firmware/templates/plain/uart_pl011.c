/* Arm's PL011 UART, which Stellaris boards and Arm's Musca boards have.
 *
 * Sources: Arm, PrimeCell UART (PL011); Texas Instruments, LM3S6965 data sheet.
 */
#include "board.h"

enum { DATA = 0, FLAGS = 0x18, RATE = 0x24, RATE_FRACTION = 0x28, LINE = 0x2C, CONTROL = 0x30 };

void uart_start(void) {
#ifdef STELLARIS
  REGISTER(0x400FE104) |= 1u; /* clock of UART 0 */
  REGISTER(0x400FE108) |= 1u; /* clock of port A */
  REGISTER(0x40004420) |= 3u; /* PA0 and PA1: alternate function */
  REGISTER(0x4000451C) |= 3u; /* digital */
#endif
  REGISTER(UART + CONTROL) = 0;
  REGISTER(UART + RATE) = CLOCK_HZ / (16u * BAUD);
  REGISTER(UART + RATE_FRACTION) = CLOCK_HZ * 4u / BAUD % 64u;
  REGISTER(UART + LINE) = 0x70; /* 8 bits, with the FIFO */
  REGISTER(UART + CONTROL) = 0x301; /* enable, transmit, receive */
}

int uart_read(void) {
  return REGISTER(UART + FLAGS) & 1u << 4 ? -1 : (int)(REGISTER(UART + DATA) & 0xFF);
}

void uart_write(uint8_t byte) {
  while (REGISTER(UART + FLAGS) & 1u << 5)
    ;
  REGISTER(UART + DATA) = byte;
}
