/* Stub of Zephyr's devices. */
struct device;
extern const struct device stub_console;
#define DT_CHOSEN(name) name
#define DEVICE_DT_GET(node) (&stub_console)
static inline int device_is_ready(const struct device *device) { return device != 0; }
