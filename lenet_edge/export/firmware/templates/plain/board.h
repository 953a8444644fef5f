/* Functions of the files start.c and uart.c. */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

void systick_start(void);
uint32_t systick_read(void);

void uart_start(void);
int uart_read(void); /* return a byte, or -1 if none has arrived */
void uart_write(uint8_t byte);

#endif
