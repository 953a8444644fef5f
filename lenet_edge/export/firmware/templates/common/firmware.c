/* Serial protocol of lenet-edge, board side; see firmware.h. */
#include "firmware.h"

#include <string.h>

enum { VERSION = 1, HEADER = 11, CHECK = 4 };
enum { SYNC_0 = 0xA5, SYNC_1 = 0x5A };
enum { DESCRIBE = 0x01, INFER = 0x02, REPLY = 0x80, REFUSED = 0xFF };
enum { UNKNOWN_TYPE = 1, WRONG_LENGTH = 2 };

static struct {
  uint8_t counter;
  uint32_t counter_hz;
  /* The frame that is arriving: the bytes so far, its header, its length, its CRC. */
  uint32_t at, length, crc, received_crc;
  uint8_t header[HEADER];
  /* The place of the next payload byte. */
  uint32_t tensor, offset;
  uint8_t typed; /* the characters of "test" so far */
} state;

/* CRC-32/ISO-HDLC, as in zlib and Ethernet: polynomial 0xEDB88320, reflected. */
static uint32_t add_to_crc(uint32_t crc, const uint8_t *bytes, size_t count) {
  static const uint32_t table[16] = {
      0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4,
      0x4DB26158, 0x5005713C, 0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C,
      0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C,
  };
  for (size_t n = 0; n < count; n++) {
    crc ^= bytes[n];
    crc = crc >> 4 ^ table[crc & 15];
    crc = crc >> 4 ^ table[crc & 15];
  }
  return crc;
}

static uint32_t load(const uint8_t *bytes) {
  return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static void store(uint8_t *bytes, uint32_t value) {
  for (int n = 0; n < 4; n++)
    bytes[n] = (uint8_t)(value >> 8 * n);
}

static uint32_t sum_sizes(const struct firmware_tensor *tensors, uint32_t count) {
  uint32_t sum = 0;
  for (uint32_t n = 0; n < count; n++)
    sum += tensors[n].size;
  return sum;
}

/* A reply is written in parts: its header, its payload, its CRC. */
static uint32_t reply_crc;

static void write_part(const void *bytes, size_t count) {
  reply_crc = add_to_crc(reply_crc, bytes, count);
  firmware_write(bytes, count);
}

static void begin_reply(uint8_t type, uint32_t length) {
  static const uint8_t sync[] = {SYNC_0, SYNC_1};
  uint8_t header[HEADER - 2];
  header[0] = type;
  memcpy(header + 1, state.header + 3, 4); /* the sequence number of the request */
  store(header + 5, length);
  firmware_write(sync, sizeof sync);
  reply_crc = 0xFFFFFFFFu;
  write_part(header, sizeof header);
}

static void end_reply(void) {
  uint8_t check[CHECK];
  store(check, ~reply_crc);
  firmware_write(check, sizeof check);
}

static void refuse(uint8_t reason) {
  begin_reply(REFUSED, 1);
  write_part(&reason, 1);
  end_reply();
}

static void describe(void) {
  const struct firmware_model *model = &firmware_model;
  uint8_t facts[8] = {VERSION, state.counter, model->num_inputs, model->num_outputs};
  store(facts + 4, state.counter_hz);
  begin_reply(DESCRIBE | REPLY, sizeof facts + sizeof model->sha256 +
                                    8u * (model->num_inputs + (uint32_t)model->num_outputs));
  write_part(facts, sizeof facts);
  write_part(model->sha256, sizeof model->sha256);
  for (uint32_t n = 0; n < (uint32_t)model->num_inputs + model->num_outputs; n++) {
    const struct firmware_tensor *tensor =
        n < model->num_inputs ? &model->inputs[n] : &model->outputs[n - model->num_inputs];
    uint8_t entry[8] = {(uint8_t)tensor->type};
    store(entry + 4, tensor->size);
    write_part(entry, sizeof entry);
  }
  end_reply();
}

static void infer(void) {
  const struct firmware_model *model = &firmware_model;
  const uint32_t start = firmware_count();
  model->run();
  uint8_t count[4];
  store(count, firmware_count() - start);
  begin_reply(INFER | REPLY, 4 + sum_sizes(model->outputs, model->num_outputs));
  write_part(count, sizeof count);
  for (uint32_t n = 0; n < model->num_outputs; n++)
    write_part(model->outputs[n].data, model->outputs[n].size);
  end_reply();
}

/* Handle a frame whose CRC is right. */
static void handle(void) {
  const uint8_t type = state.header[2];
  if (type != DESCRIBE && type != INFER)
    refuse(UNKNOWN_TYPE);
  else if (state.length !=
           (type == INFER ? sum_sizes(firmware_model.inputs, firmware_model.num_inputs) : 0))
    refuse(WRONG_LENGTH);
  else if (type == INFER)
    infer();
  else
    describe();
}

/* Put a byte of an inference's payload into the inputs. */
static void keep(uint8_t byte) {
  while (state.offset == firmware_model.inputs[state.tensor].size) {
    state.tensor++;
    state.offset = 0;
  }
  firmware_model.inputs[state.tensor].data[state.offset++] = byte;
}

/* Look for "test" between frames: a person may type it in a serial terminal. */
static void watch_for_test(uint8_t byte) {
  static const char word[] = "test";
  if (byte == (uint8_t)word[state.typed])
    state.typed++;
  else
    state.typed = byte == (uint8_t)word[0];
  if (state.typed == sizeof word - 1) {
    state.typed = 0;
    firmware_test();
  }
}

static void receive(uint8_t byte) {
  const uint32_t at = state.at;
  if (at == 0) {
    state.at = byte == SYNC_0;
    watch_for_test(byte);
    return;
  }
  if (at == 1) {
    state.at = byte == SYNC_1 ? 2 : byte == SYNC_0;
    return;
  }
  state.at++;
  if (at < HEADER) {
    state.header[at] = byte;
    if (state.at == HEADER) {
      state.length = load(state.header + 7);
      state.crc = add_to_crc(0xFFFFFFFFu, state.header + 2, HEADER - 2);
      state.tensor = state.offset = 0;
      if (state.length > sum_sizes(firmware_model.inputs, firmware_model.num_inputs))
        state.at = 0; /* damaged, or no frame */
    }
  } else if (at < HEADER + state.length) {
    state.crc = add_to_crc(state.crc, &byte, 1);
    keep(byte);
  } else {
    state.received_crc = state.received_crc >> 8 | (uint32_t)byte << 24;
    if (state.at == HEADER + state.length + CHECK) {
      state.at = 0;
      if (state.received_crc == ~state.crc)
        handle();
    }
  }
}

void firmware_start(enum firmware_counter counter, uint32_t counter_hz) {
  memset(&state, 0, sizeof state);
  state.counter = (uint8_t)counter;
  state.counter_hz = counter_hz;
}

void firmware_poll(void) {
  int byte;
  while ((byte = firmware_read()) >= 0)
    receive((uint8_t)byte);
}

static void print(const char *text) { firmware_write((const uint8_t *)text, strlen(text)); }

static void print_number(int32_t number) {
  char text[12], *start = text + sizeof text - 1;
  uint32_t rest = number < 0 ? 0u - (uint32_t)number : (uint32_t)number;
  *start = 0;
  do
    *--start = (char)('0' + rest % 10);
  while (rest /= 10);
  if (number < 0)
    *--start = '-';
  print(start);
}

/* Return element n as a whole number; of floats, the thousandths. */
static int32_t element(const uint8_t *bytes, char type, uint32_t n) {
  int8_t small;
  int16_t medium;
  int32_t large;
  float real;
  switch (type) {
  case 'f':
    memcpy(&real, bytes + 4 * n, 4);
    real *= 1000.0f;
    if (!(real > -2e9f && real < 2e9f))
      return INT32_MIN; /* too large, or no number */
    return (int32_t)(real < 0 ? real - 0.5f : real + 0.5f);
  case 'i':
    memcpy(&large, bytes + 4 * n, 4);
    return large;
  case 'h':
    memcpy(&medium, bytes + 2 * n, 2);
    return medium;
  case 'b':
    memcpy(&small, bytes + n, 1);
    return small;
  default:
    return bytes[n];
  }
}

static uint32_t width(char type) { return type == 'f' || type == 'i' ? 4 : type == 'h' ? 2 : 1; }

/* Return whether two elements are equal: integers exactly, floats up to a thousandth. */
static int is_equal(int32_t found, int32_t expected, char type) {
  const int32_t low = found < expected ? found : expected;
  const uint32_t apart = found < expected ? (uint32_t)expected - (uint32_t)found
                                          : (uint32_t)found - (uint32_t)expected;
  if (type != 'f' || low == INT32_MIN)
    return apart == 0;
  return apart <= 2 + (uint32_t)(expected < 0 ? 0u - (uint32_t)expected : (uint32_t)expected) / 1000;
}

/* Write the end of the line of a test that failed; return 0. */
static int fail(uint32_t image, uint32_t tensor, uint32_t n, char type, int32_t found,
                int32_t expected) {
  print("FAIL at image ");
  print_number((int32_t)image);
  print(", output ");
  print_number((int32_t)tensor);
  print(", element ");
  print_number((int32_t)n);
  print(": ");
  print_number(found);
  print(" instead of ");
  print_number(expected);
  print(type == 'f' ? " thousandths\r\n" : "\r\n");
  return 0;
}

int firmware_test(void) {
  const struct firmware_model *model = &firmware_model;
  const uint8_t *image = model->images, *expected = model->expected;
  print(model->name);
  print(": ");
  for (uint32_t number = 0; number < model->num_images; number++) {
    for (uint32_t n = 0; n < model->num_inputs; n++) {
      memcpy(model->inputs[n].data, image, model->inputs[n].size);
      image += model->inputs[n].size;
    }
    model->run();
    for (uint32_t tensor = 0; tensor < model->num_outputs; tensor++) {
      const struct firmware_tensor *output = &model->outputs[tensor];
      for (uint32_t n = 0; n < output->size / width(output->type); n++) {
        const int32_t found = element(output->data, output->type, n);
        const int32_t wanted = element(expected, output->type, n);
        if (!is_equal(found, wanted, output->type))
          return fail(number, tensor, n, output->type, found, wanted);
      }
      expected += output->size;
    }
  }
  print("PASS, ");
  print_number(model->num_images);
  print(" of ");
  print_number(model->num_images);
  print(" images\r\n");
  return 1;
}
