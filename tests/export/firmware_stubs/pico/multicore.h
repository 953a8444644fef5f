/* Stub of the Pico SDK's second core, which is the first one here. */
#include <stddef.h>
#include <stdint.h>
static inline void multicore_launch_core1_with_stack(void (*entry)(void), uint32_t *bottom,
                                                     size_t bytes) {
  if (bottom && bytes)
    entry();
}
