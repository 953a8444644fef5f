/* Serial protocol of lenet-edge: a host sends inputs, and the board returns outputs and a count.
 *
 * docs/firmware.md of lenet-edge describes the frames. The code is C99, allocates nothing, and
 * needs no library. A program calls `firmware_start` once, and then `firmware_poll` forever.
 */
#ifndef FIRMWARE_H
#define FIRMWARE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The counters that a board may have. */
enum firmware_counter {
  FIRMWARE_NO_COUNTER = 0,
  FIRMWARE_DWT_CYCLES = 1,     /* CYCCNT of the processor's debug unit: processor cycles */
  FIRMWARE_SYSTICK_CYCLES = 2, /* SysTick on the processor's clock: processor cycles */
  FIRMWARE_MICROSECONDS = 3,   /* a clock of the board */
};

/* The board supplies these three functions. */
int firmware_read(void); /* return the next byte, or -1 if none has arrived */
void firmware_write(const uint8_t *bytes, size_t count);
uint32_t firmware_count(void); /* return the counter; it wraps at 32 bits */

/* The file firmware_model.c supplies these. A type is a character of Python's module `struct`. */
struct firmware_tensor {
  uint8_t *data;
  uint32_t size;
  char type;
};
struct firmware_model {
  const char *name;
  uint8_t sha256[32]; /* of the C file */
  uint8_t num_inputs, num_outputs, num_images;
  const struct firmware_tensor *inputs, *outputs;
  const uint8_t *images, *expected; /* of the self-test: all tensors of an image, then the next */
  void (*run)(void);
};
extern const struct firmware_model firmware_model;

/* Start the protocol.
 *
 * counter: the counter that `firmware_count` returns.
 * counter_hz: its frequency, 0 if it is not known.
 */
void firmware_start(enum firmware_counter counter, uint32_t counter_hz);

/* Handle all bytes that have arrived, and return. */
void firmware_poll(void);

/* Run the self-test, write a line with PASS or FAIL, and return 1 for PASS. */
int firmware_test(void);

#ifdef __cplusplus
}
#endif

#endif
