/* Start of a Cortex-M: the vectors, the first values of variables, and the counter of SysTick. */
#include "board.h"

extern uint32_t ld_stack_top[], ld_data_load[], ld_data[], ld_data_end[], ld_bss[], ld_bss_end[];
int main(void);
void firmware_reset(void);

static volatile uint32_t wraps;

static void wrap(void) { wraps++; }

void systick_start(void) {
  REGISTER(0xE000E014) = 0xFFFFFF; /* it counts down in 24 bits, and interrupts when it wraps */
  REGISTER(0xE000E018) = 0;
  REGISTER(0xE000E010) = 7; /* the processor's clock, with interrupts */
}

uint32_t systick_read(void) {
  uint32_t now, before;
  do {
    before = wraps;
    now = REGISTER(0xE000E018);
  } while (before != wraps);
  return before * 0x1000000u + (0xFFFFFF - now);
}

void firmware_reset(void) {
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
  REGISTER(0xE000ED88) |= 0xFu << 20; /* CPACR: the floating-point unit */
  __asm__ volatile("dsb\n\tisb");
#endif
  const uint32_t *from = ld_data_load;
  for (volatile uint32_t *word = ld_data; word < ld_data_end; word++)
    *word = *from++;
  for (volatile uint32_t *word = ld_bss; word < ld_bss_end; word++)
    *word = 0;
  main();
}

static void fault(void) {
  for (const char *text = "FAIL: the processor stopped with a fault\r\n"; *text; text++)
    uart_write((uint8_t)*text);
  for (;;)
    ;
}

/* The initial stack pointer, the reset, the faults from NMI to UsageFault, and SysTick. */
__attribute__((section(".vectors"), used)) static const uintptr_t vectors[16] = {
    (uintptr_t)ld_stack_top, (uintptr_t)firmware_reset, (uintptr_t)fault, (uintptr_t)fault,
    (uintptr_t)fault,        (uintptr_t)fault, (uintptr_t)fault, [15] = (uintptr_t)wrap,
};
