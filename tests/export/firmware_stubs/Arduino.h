// Stub of the Arduino core.
#pragma once
#include <stddef.h>
#include <stdint.h>
extern "C" int stub_put(int byte);
struct StubSerial {
  void begin(unsigned long) {}
  int read() { return -1; }
  size_t write(const uint8_t *bytes, size_t count) {
    for (size_t n = 0; n < count; n++)
      stub_put(bytes[n]);
    return count;
  }
};
static StubSerial Serial;
inline unsigned long micros() { return 0; }
void setup();
void loop();
int main() {
  setup();
  for (;;)
    loop();
}
