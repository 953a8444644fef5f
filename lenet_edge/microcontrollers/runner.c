/* Program that runs a network in an emulator: it reads inputs from the host's file `in`, writes the
 * outputs to `out`, and writes the SysTick ticks of each call to `ticks`.
 *
 * The files may be FIFOs. The program ends at the end of `in`. The file network.h, which is written
 * for each network, defines INPUT_BYTES, OUTPUT_BYTES and `run_network`.
 * It talks to the host by semihosting: BKPT 0xAB with an operation and its arguments.
 * Source: Arm, "Semihosting for AArch32 and AArch64", 2022.
 */
#include <stdint.h>

#include "network.h"

extern uint32_t ld_stack_end[];
_Noreturn void on_fault(uint32_t number, uint32_t place);
void on_tick(void);

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))
#define SYSTICK_CONTROL REGISTER(0xE000E010)
#define SYSTICK_RELOAD REGISTER(0xE000E014)
#define SYSTICK_NOW REGISTER(0xE000E018)
#define TICKS 0xFFFFFFu /* SysTick counts down in 24 bits, and interrupts when it wraps. */
#define PAINT 0xA5A5A5A5u
#define GUARD_WORDS 16

enum { OPEN = 1, CLOSE = 2, WRITE = 5, READ = 6, EXIT = 0x20 };
enum { READ_BINARY = 1, WRITE_BINARY = 5 };
/* Exit statuses; emulator.py explains them. */
enum { DONE = 0, NO_FILE = 3, STACK_IS_FULL = 4, FAULT = 5, TRUNCATED = 6 };

static int8_t input[INPUT_BYTES] __attribute__((aligned(16)));
static int8_t output[OUTPUT_BYTES] __attribute__((aligned(16)));

static uintptr_t call_host(uintptr_t operation, const void *arguments) {
  register uintptr_t r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = arguments;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

static _Noreturn void leave(uintptr_t status) {
  const uintptr_t arguments[] = {0x20026 /* the application's exit */, status};
  call_host(EXIT, arguments);
  for (;;)
    ;
}

static uintptr_t open_file(const char *name, uintptr_t length, uintptr_t mode) {
  const uintptr_t arguments[] = {(uintptr_t)name, mode, length};
  const uintptr_t file = call_host(OPEN, arguments);
  if (file == (uintptr_t)-1)
    leave(NO_FILE);
  return file;
}

/* Read or write a block; return the number of bytes that are missing. A pipe moves parts of it. */
static uintptr_t transfer(uintptr_t operation, uintptr_t file, void *bytes, uintptr_t count) {
  while (count > 0) {
    const uintptr_t arguments[] = {file, (uintptr_t)bytes, count};
    const uintptr_t missing = call_host(operation, arguments);
    if (missing >= count)
      return count;
    bytes = (int8_t *)bytes + (count - missing);
    count = missing;
  }
  return 0;
}

static void close_file(uintptr_t file) { call_host(CLOSE, &file); }

static volatile uint32_t wraps;

void on_tick(void) { wraps++; }

/* Start the counter again. */
static inline void start_ticks(void) {
  SYSTICK_NOW = 0;
  wraps = 0;
}

/* Return the ticks since the start, in 32 bits. */
static inline uint32_t read_ticks(void) {
  const uint32_t now = SYSTICK_NOW;
  return wraps * (TICKS + 1u) + (TICKS - now);
}

/* Call the network, and return the ticks of the call. */
__attribute__((noinline)) static uint32_t call_network(void) {
  start_ticks();
  run_network(input, output);
  return read_ticks();
}

__attribute__((noinline)) static uint32_t call_nothing(void) {
  start_ticks();
  __asm__ volatile("" ::: "memory");
  return read_ticks();
}

/* Return the bytes of stack that a call needs: paint the free stack, and look for changed words. */
__attribute__((noinline)) static uint32_t measure_stack(void) {
  uint32_t *top;
  __asm__ volatile("mov %0, sp" : "=r"(top));
  for (uint32_t *word = ld_stack_end; word < top; word++)
    *(volatile uint32_t *)word = PAINT;
  call_network();
  const uint32_t *word = ld_stack_end;
  while (word < top && *(volatile const uint32_t *)word == PAINT)
    word++;
  if (word < ld_stack_end + GUARD_WORDS)
    leave(STACK_IS_FULL); /* or almost */
  return (uint32_t)((uintptr_t)top - (uintptr_t)word);
}

int main(void) {
  const uintptr_t in = open_file("in", 2, READ_BINARY), out = open_file("out", 3, WRITE_BINARY);
  const uintptr_t ticks = open_file("ticks", 5, WRITE_BINARY);
  uintptr_t missing;
  SYSTICK_RELOAD = TICKS;
  SYSTICK_CONTROL = 7; /* the processor's clock, with interrupts */
  uint32_t numbers[] = {call_nothing(), measure_stack()};
  transfer(WRITE, ticks, numbers, sizeof numbers);
  while ((missing = transfer(READ, in, input, sizeof input)) == 0) {
    uint32_t count = call_network();
    transfer(WRITE, out, output, sizeof output);
    transfer(WRITE, ticks, &count, sizeof count);
  }
  close_file(out);
  close_file(ticks);
  leave(missing == sizeof input ? DONE : TRUNCATED);
}

/* Write the exception and its place to the file `fault`. */
_Noreturn void on_fault(uint32_t number, uint32_t place) {
  uint32_t numbers[] = {number, place};
  const uintptr_t file = open_file("fault", 5, WRITE_BINARY);
  transfer(WRITE, file, numbers, sizeof numbers);
  close_file(file);
  leave(FAULT);
}
