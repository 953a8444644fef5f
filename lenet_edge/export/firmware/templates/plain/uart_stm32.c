/* USART1 of STM32F1, F2 and F4 at pins PA9 (transmit) and PA10 (receive), on the internal clock.
 *
 * Sources: ST's reference manuals RM0041 (F100), RM0033 (F205) and RM0090 (F405).
 */
#include "board.h"

enum { STATUS = 0, DATA = 4, RATE = 8, CONTROL = 12 };

void uart_start(void) {
#ifdef STM32F1
  REGISTER(0x40021018) |= 1u << 14 | 1u << 2; /* RCC: clocks of USART1 and port A */
  REGISTER(0x40010804) = (REGISTER(0x40010804) & ~0xFF0u) | 0x4B0u; /* PA9 alternate, PA10 input */
#else
  REGISTER(0x40023830) |= 1u;      /* RCC: clock of port A */
  REGISTER(0x40023844) |= 1u << 4; /* RCC: clock of USART1 */
  REGISTER(0x40020000) = (REGISTER(0x40020000) & ~(0xFu << 18)) | 0xAu << 18; /* alternate */
  REGISTER(0x40020024) = (REGISTER(0x40020024) & ~(0xFFu << 4)) | 0x77u << 4; /* function 7 */
#endif
  REGISTER(UART + RATE) = (CLOCK_HZ + BAUD / 2) / BAUD;
  REGISTER(UART + CONTROL) = 1u << 13 | 1u << 3 | 1u << 2; /* enable, transmit, receive */
}

int uart_read(void) {
  return REGISTER(UART + STATUS) & 1u << 5 ? (int)(REGISTER(UART + DATA) & 0xFF) : -1;
}

void uart_write(uint8_t byte) {
  while (!(REGISTER(UART + STATUS) & 1u << 7))
    ;
  REGISTER(UART + DATA) = byte;
}
