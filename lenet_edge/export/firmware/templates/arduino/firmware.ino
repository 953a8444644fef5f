// Firmware of @file@.c: the self-test, then the serial protocol of lenet-edge.
#include <@file@.h>
#include <firmware.h>
#include <firmware_cycles.h>

static bool has_cycles;

int firmware_read(void) { return Serial.read(); }

void firmware_write(const uint8_t *bytes, size_t count) { Serial.write(bytes, count); }

uint32_t firmware_count(void) { return has_cycles ? cycles_read() : micros(); }

void setup() {
  Serial.begin(115200);
  has_cycles = cycles_start();
#ifdef F_CPU
  const uint32_t clock_hz = F_CPU;
#else
  const uint32_t clock_hz = 0;
#endif
  if (has_cycles)
    firmware_start(FIRMWARE_DWT_CYCLES, clock_hz);
  else
    firmware_start(FIRMWARE_MICROSECONDS, 1000000);
  firmware_test();
}

void loop() { firmware_poll(); }
