/* Stub of the Pico SDK's standard library. */
#include <stdint.h>
int stub_put(int byte);
static inline void stdio_init_all(void) {}
static inline int getchar_timeout_us(uint32_t timeout_us) { return (void)timeout_us, -1; }
static inline int putchar_raw(int byte) { return stub_put(byte); }
static inline uint32_t time_us_32(void) { return 0; }
static inline void tight_loop_contents(void) {}
