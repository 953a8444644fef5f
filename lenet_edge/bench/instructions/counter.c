/* Plugin of QEMU that counts the executed instructions of each layer of a network.
 *
 * Use it with -plugin counter.so,map=FILE,out=FILE. Each line of `map` has the first address of a
 * range, the address behind it, and a number: the layer that these instructions belong to. All
 * other instructions belong to the layer of the last instruction in a range. `out` gets a line for
 * each number that was executed: the number and its instructions.
 *
 * Debian ships no header, so the functions of the plugin interface are declared here.
 * Source: QEMU's documentation, "QEMU TCG Plugins".
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct qemu_plugin_tb; /* a block of instructions that are executed together */
struct qemu_plugin_insn;
typedef void on_block(unsigned cpu, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *block, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *instruction);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id,
                                           void (*)(uint64_t id, struct qemu_plugin_tb *block));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block, on_block *, int flags,
                                          void *data);
void qemu_plugin_register_atexit_cb(uint64_t id, void (*)(uint64_t id, void *data), void *data);

#define EXPORTED __attribute__((visibility("default")))
EXPORTED int qemu_plugin_version = INTERFACE;

enum { MOST_RANGES = 1 << 16, MOST_LAYERS = 1 << 12, SAME = -1 };
static struct range {
  uint64_t begin, end;
  int layer;
} ranges[MOST_RANGES];
static int range_count, current;
static unsigned long long totals[MOST_LAYERS];
static char out[4096];

/* Consecutive instructions of one layer. */
struct part {
  int layer, count;
};

static int layer_at(uint64_t address) {
  for (int low = 0, high = range_count; low < high;) {
    const int middle = (low + high) / 2;
    if (address < ranges[middle].begin)
      high = middle;
    else if (address >= ranges[middle].end)
      low = middle + 1;
    else
      return ranges[middle].layer;
  }
  return SAME;
}

static void add_same(unsigned cpu, void *count) {
  (void)cpu;
  totals[current] += (size_t)count;
}

static void add_parts(unsigned cpu, void *parts) {
  (void)cpu;
  for (const struct part *part = parts; part->count; part++) {
    if (part->layer != SAME) current = part->layer;
    totals[current] += (unsigned)part->count;
  }
}

static void translated(uint64_t id, struct qemu_plugin_tb *block) {
  (void)id;
  const size_t count = qemu_plugin_tb_n_insns(block);
  struct part *const parts = calloc(count + 1, sizeof *parts);
  size_t last = 0;
  if (!parts) abort();
  for (size_t n = 0; n < count; n++) {
    const int layer = layer_at(qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(block, n)));
    if (n && layer != parts[last].layer) last++;
    parts[last].layer = layer;
    parts[last].count++;
  }
  if (last == 0 && parts[0].layer == SAME) {
    free(parts);
    qemu_plugin_register_vcpu_tb_exec_cb(block, add_same, 0, (void *)count);
  } else {
    qemu_plugin_register_vcpu_tb_exec_cb(block, add_parts, 0, parts);
  }
}

static void at_exit(uint64_t id, void *data) {
  (void)id, (void)data;
  FILE *file = fopen(out, "w");
  if (!file) return;
  for (int layer = 0; layer < MOST_LAYERS; layer++)
    if (totals[layer]) fprintf(file, "%d %llu\n", layer, totals[layer]);
  fclose(file);
}

EXPORTED int qemu_plugin_install(uint64_t id, const void *info, int count, char **arguments) {
  (void)info;
  char map[4096];
  if (count != 2 || sscanf(arguments[0], "map=%4095s", map) != 1 ||
      sscanf(arguments[1], "out=%4095s", out) != 1)
    return 1;
  FILE *file = fopen(map, "r");
  if (!file) return 1;
  struct range r;
  while (range_count < MOST_RANGES &&
         fscanf(file, "%" SCNx64 " %" SCNx64 " %d", &r.begin, &r.end, &r.layer) == 3)
    ranges[range_count++] = r;
  fclose(file);
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, at_exit, NULL);
  return 0;
}
