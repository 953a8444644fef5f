/* Stub of Zephyr's clock. */
#include <stdint.h>
static inline uint32_t k_cycle_get_32(void) { return 0; }
static inline uint64_t k_cyc_to_us_floor64(uint64_t cycles) { return cycles; }
