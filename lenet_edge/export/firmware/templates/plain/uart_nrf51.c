/* UART of the nRF51, at the pins of the BBC micro:bit. Source: Nordic, nRF51 Reference Manual. */
#include "board.h"

enum {
  START_RECEIVER = 0x000, START_TRANSMITTER = 0x008, RECEIVED = 0x108, TRANSMITTED = 0x11C,
  ENABLE = 0x500, TRANSMIT_PIN = 0x50C, RECEIVE_PIN = 0x514, RECEIVE_DATA = 0x518,
  TRANSMIT_DATA = 0x51C, RATE = 0x524,
};

void uart_start(void) {
  REGISTER(UART + TRANSMIT_PIN) = 24;
  REGISTER(UART + RECEIVE_PIN) = 25;
  REGISTER(UART + RATE) = 0x01D7E000; /* 115,200 baud */
  REGISTER(UART + ENABLE) = 4;
  REGISTER(UART + START_TRANSMITTER) = 1;
  REGISTER(UART + START_RECEIVER) = 1;
}

int uart_read(void) {
  if (!REGISTER(UART + RECEIVED))
    return -1;
  REGISTER(UART + RECEIVED) = 0;
  return (int)(REGISTER(UART + RECEIVE_DATA) & 0xFF);
}

void uart_write(uint8_t byte) {
  REGISTER(UART + TRANSMITTED) = 0;
  REGISTER(UART + TRANSMIT_DATA) = byte;
  while (!REGISTER(UART + TRANSMITTED))
    ;
}
