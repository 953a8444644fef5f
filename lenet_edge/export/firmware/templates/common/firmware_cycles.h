/* Cycle counter of Arm's Cortex-M3, M4, M7, M33, M55 and M85: CYCCNT of the debug unit (DWT).
 *
 * Cortex-M0, M0+ and M23 have none. Source: Arm, Armv7-M and Armv8-M Architecture Reference Manuals.
 */
#ifndef FIRMWARE_CYCLES_H
#define FIRMWARE_CYCLES_H

#include <stdint.h>

#if defined(__ARM_ARCH_7M__) || defined(__ARM_ARCH_7EM__) || defined(__ARM_ARCH_8M_MAIN__) || \
    defined(__ARM_ARCH_8_1M_MAIN__)
#define CYCLES_REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

/* Return the counter. */
static inline uint32_t cycles_read(void) { return CYCLES_REGISTER(0xE0001004); }

/* Start the counter, and return 1 if it counts. */
static inline int cycles_start(void) {
  CYCLES_REGISTER(0xE000EDFC) |= 1u << 24; /* DEMCR.TRCENA switches the debug unit on */
#ifdef __ARM_ARCH_7EM__
  CYCLES_REGISTER(0xE0001FB0) = 0xC5ACCE55u; /* Cortex-M7 locks the unit at reset */
#endif
  CYCLES_REGISTER(0xE0001000) |= 1u;
  const uint32_t start = cycles_read();
  for (volatile int n = 0; n < 8; n++)
    ;
  return cycles_read() != start;
}
#else
static inline uint32_t cycles_read(void) { return 0; }
static inline int cycles_start(void) { return 0; }
#endif

#endif
