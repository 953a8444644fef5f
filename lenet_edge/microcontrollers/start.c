/* Start of a bare-metal program on any Cortex-M core: vectors, memory, floating-point unit, faults.
 *
 * It calls `main`, and `on_fault` after a fault. `on_tick` counts the wraps of SysTick.
 */
#include <stddef.h>
#include <stdint.h>

extern uint32_t ld_stack_top[];
extern uint32_t ld_data_load[], ld_data[], ld_data_end[], ld_bss[], ld_bss_end[];
int main(void);
void reset(void);
void fault(void);
/* number: of the exception. place: address of the instruction that caused it. */
_Noreturn void on_fault(uint32_t number, uint32_t place);
__attribute__((weak)) void on_tick(void);

#define COPROCESSORS (*(volatile uint32_t *)(uintptr_t)0xE000ED88)

__attribute__((weak)) void on_tick(void) {}

void reset(void) {
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
  COPROCESSORS |= 0xFu << 20;
  __asm__ volatile("dsb\n\tisb");
#endif
  const uint32_t *from = ld_data_load;
  for (volatile uint32_t *word = ld_data; word < ld_data_end; word++)
    *word = *from++;
  for (volatile uint32_t *word = ld_bss; word < ld_bss_end; word++)
    *word = 0;
  main();
  for (;;)
    ;
}

__attribute__((used)) static void report_fault(const uint32_t *frame) {
  uint32_t number;
  __asm__ volatile("mrs %0, ipsr" : "=r"(number));
  on_fault(number, frame[6]);
}

/* Pass the registers that the processor saved on the stack. */
__attribute__((naked)) void fault(void) {
  __asm__ volatile("mov r0, sp\n\tbl report_fault");
}

/* The initial stack pointer, the reset, the faults from NMI to UsageFault, and SysTick. */
__attribute__((section(".vectors"), used)) static const uintptr_t vectors[16] = {
    (uintptr_t)ld_stack_top, (uintptr_t)reset, (uintptr_t)fault, (uintptr_t)fault,
    (uintptr_t)fault,        (uintptr_t)fault, (uintptr_t)fault, [15] = (uintptr_t)on_tick,
};

#ifdef WITHOUT_LIBRARY /* a compiler that brings no C library, such as that of Zig */
void *memcpy(void *restrict to, const void *restrict from, size_t count);
void *memmove(void *to, const void *from, size_t count);
void *memset(void *to, int value, size_t count);

__attribute__((no_builtin)) void *memcpy(void *restrict to, const void *restrict from,
                                         size_t count) {
  uint8_t *out = to;
  const uint8_t *in = from;
  while (count--)
    *out++ = *in++;
  return to;
}

__attribute__((no_builtin)) void *memmove(void *to, const void *from, size_t count) {
  uint8_t *out = to;
  const uint8_t *in = from;
  if (out <= in)
    return memcpy(to, from, count);
  while (count--)
    out[count] = in[count];
  return to;
}

__attribute__((no_builtin)) void *memset(void *to, int value, size_t count) {
  uint8_t *out = to;
  while (count--)
    *out++ = (uint8_t)value;
  return to;
}
#endif
