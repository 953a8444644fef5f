"""The board side of the serial protocol, compiled for this machine, and a line that fails.

The board is the exported C code with a small network of its own. It has no time: a reply is there
as soon as its request was written, and a read without bytes is a timeout.
"""

from __future__ import annotations

import ctypes
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

from lenet_edge.microcontrollers.serial_port import Port

TEMPLATES = Path(__file__).parents[2] / "lenet_edge" / "export" / "firmware" / "templates"
INPUT_BYTES, OUTPUT_BYTES = 24, 8
_MODEL = """
#include "firmware.h"
static uint8_t in0[9], in1[15], out0[4], out1[4], received[1 << 20], sent[1 << 20];
static uint32_t length, place, sent_length, ticks;
static void run(void) {
  uint32_t hash = 2166136261u;
  for (int n = 0; n < 24; n++)
    hash = (hash ^ (n < 9 ? in0[n] : in1[n - 9])) * 16777619u;
  for (int n = 0; n < 4; n++) {
    out0[n] = (uint8_t)(hash >> 8 * n);
    out1[n] = (uint8_t)(hash >> 4 * n);
  }
}
int firmware_read(void) { return place < length ? received[place++] : -1; }
void firmware_write(const uint8_t *bytes, size_t count) {
  while (count--)
    sent[sent_length++] = *bytes++;
}
uint32_t firmware_count(void) { return ticks += 7; }
static const struct firmware_tensor inputs[] = {{in0, 9, 'b'}, {in1, 15, 'B'}};
static const struct firmware_tensor outputs[] = {{out0, 4, 'b'}, {out1, 4, 'f'}};
const struct firmware_model firmware_model = {
    "small", {1, 2, 3}, 2, 2, 0, inputs, outputs, 0, 0, run};
uint32_t feed(const uint8_t *bytes, uint32_t count, uint8_t *reply) {
  for (length = place = 0; length < count; length++)
    received[length] = bytes[length];
  sent_length = 0;
  firmware_poll();
  for (uint32_t n = 0; n < sent_length; n++)
    reply[n] = sent[n];
  return sent_length;
}
"""


class LocalBoard:
    """The board as a port, in this process."""

    def __init__(self, folder: Path) -> None:
        (folder / "model.c").write_text(_MODEL)
        common = TEMPLATES / "common"
        subprocess.run(
            ["cc", "-std=c99", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fPIC",
             "-shared", "-I", common, common / "firmware.c", folder / "model.c",
             "-o", folder / "board.so"], check=True,
        )  # fmt: skip
        self._library = ctypes.CDLL(str(folder / "board.so"))
        self._reply = ctypes.create_string_buffer(1 << 20)
        self._arrived = b""
        self.reset()

    def reset(self) -> None:
        """Restart the program, which prints the line of its self-test."""
        self._library.firmware_start(1, 64_000_000)
        self._arrived += b"small: PASS, 0 of 0 images\r\n"

    def write(self, content: bytes) -> None:
        size = self._library.feed(content, len(content), self._reply)
        self._arrived += self._reply.raw[:size]

    def read(self, timeout_s: float) -> bytes:
        arrived, self._arrived = self._arrived, b""
        return arrived

    def close(self) -> None:
        pass


def expected(inputs: bytes) -> bytes:
    """Return the outputs of the small network."""
    value = 2166136261
    for byte in inputs:
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return bytes(value >> 8 * n & 255 for n in range(4)) + bytes(
        value >> 4 * n & 255 for n in range(4)
    )


class FaultyLine:
    """A port that damages a share of the requests, or of their replies.

    Attributes:
        faults: the number of faults so far, by kind.
    """

    KINDS = ("lost", "flipped", "doubled", "garbage", "silence", "late", "reset", "cut")

    def __init__(self, port: Port, reset: Callable[[], None], seed: int, share: float) -> None:
        self._port, self._reset, self._share = port, reset, share
        self._random = random.Random(seed)
        self._late, self._next_late, self._pending = b"", b"", ""
        self.faults = dict.fromkeys(self.KINDS, 0)

    def write(self, content: bytes) -> None:
        """Send a request; a fault damages it or the reply."""
        kind = self._random.choice(self.KINDS) if self._random.random() < self._share else ""
        on_the_way_back = kind == "late" or self._random.random() < 0.5
        self._pending = kind if on_the_way_back else ""
        self._port.write(content if on_the_way_back else self._damage(content, kind))

    def read(self, timeout_s: float) -> bytes:
        content = self._port.read(timeout_s)
        if content:
            content, self._pending = self._damage(content, self._pending), ""
        late, self._late = self._late, self._next_late
        self._next_late = b""
        return late + content

    def close(self) -> None:
        self._port.close()

    def _damage(self, content: bytes, kind: str) -> bytes:
        if not kind or not content:
            return content
        self.faults[kind] += 1
        place = self._random.randrange(len(content))
        if kind == "lost":
            return content[:place] + content[place + self._random.randint(1, 4) :]
        if kind == "flipped":
            flipped = content[place] ^ 1 << self._random.randrange(8)
            return content[:place] + bytes([flipped]) + content[place + 1 :]
        if kind == "doubled":
            return content[: place + 1] + content[place:]
        if kind == "garbage":
            rubbish = self._random.choice([b"\xa5\x5a\x82", b"\xa5", b"test", bytes([0x5A] * 9)])
            return content[:place] + rubbish + content[place:]
        if kind == "late":  # it arrives with the reply to a later request
            self._next_late = content
            return b""
        if kind == "reset":
            self._reset()
        return content[:place] if kind == "cut" else b""
