"""Serial protocol of the exported firmware, host side: frames, retries, and a board's description.

A board returns exactly one reply to each request. A request or reply that the line damages is lost:
its CRC is wrong. The host then sends the request again, up to `ATTEMPTS` times. Sequence numbers
connect replies with requests, so that a late reply is dropped. docs/firmware.md has the format.
"""

from __future__ import annotations

import secrets
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lenet_edge.errors import TargetError
from lenet_edge.microcontrollers.serial_port import BYTES_PER_SECOND, Port
from lenet_edge.support.printable import make_printable

VERSION = 1
ATTEMPTS = 8
_SYNC = b"\xa5\x5a"
_HEADER = struct.Struct("<BII")  # type, sequence number, length of the payload
_CHECK = struct.Struct("<I")  # CRC-32/ISO-HDLC of header and payload
_DESCRIBE, _INFER = 0x01, 0x02
_REPLY, _REFUSED = 0x80, 0xFF
_FACTS = struct.Struct("<BBBBI32s")
_TENSOR = struct.Struct("<c3xI")
_MOST_TENSORS = 510
_REASONS = {1: "the type of the request is unknown", 2: "the length of the input is wrong"}
_FIRST_TIMEOUT_S, _SHORTEST_TIMEOUT_S, _LONGEST_TIMEOUT_S = 1.0, 0.1, 5.0
# The counters of firmware.h.
COUNTERS = {
    0: "no counter",
    1: "processor cycles (DWT CYCCNT)",
    2: "processor cycles (SysTick)",
    3: "microseconds",
}


@dataclass(frozen=True)
class TensorFacts:
    """The data type of a tensor, as NumPy names it, and its size in bytes."""

    dtype: str
    size: int


@dataclass(frozen=True)
class FirmwareFacts:
    """The description that a board sends.

    Attributes:
        sha256: the hash of the C file in its firmware.
        counter: the kind of its counter, a key of `COUNTERS`.
        counter_hz: the frequency of the counter; None if the board does not know it.
        inputs, outputs: the tensors.
    """

    sha256: str
    counter: int
    counter_hz: int | None
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]

    @classmethod
    def parse(cls, payload: bytes) -> FirmwareFacts:
        """Read a reply to the request "describe".

        Raises:
            TargetError: the firmware has another version of the protocol.
        """
        try:
            version, counter, num_inputs, num_outputs, hz, sha256 = _FACTS.unpack_from(payload)
            if version != VERSION:
                raise TargetError(
                    f"the firmware has version {version} of the protocol, and lenet-edge"
                    f" {VERSION}; export and flash it again"
                )
            tensors = [
                TensorFacts(np.dtype(code.decode("ascii")).name, size)
                for code, size in _TENSOR.iter_unpack(payload[_FACTS.size :])
            ]
            if len(tensors) != num_inputs + num_outputs or counter not in COUNTERS:
                raise ValueError("facts are missing")
        except (struct.error, TypeError, ValueError):
            raise TargetError(
                "the firmware describes itself wrongly; export and flash it again"
            ) from None
        inputs, outputs = tuple(tensors[:num_inputs]), tuple(tensors[num_inputs:])
        return cls(sha256.hex(), counter, hz or None, inputs, outputs)


def make_frame(kind: int, sequence: int, payload: bytes = b"") -> bytes:
    """Return a frame: sync, type, sequence number, length, payload, CRC."""
    body = _HEADER.pack(kind, sequence, len(payload)) + payload
    return _SYNC + body + _CHECK.pack(zlib.crc32(body))


class FrameReader:
    """Finds frames in received bytes, among the text and the damaged bytes between them.

    Attributes:
        most_bytes: the length of the longest payload. A longer one is damaged.
    """

    def __init__(self) -> None:
        self.most_bytes = _FACTS.size + _MOST_TENSORS * _TENSOR.size
        self._buffer = bytearray()

    def feed(self, content: bytes) -> Iterator[tuple[int, int, bytes]]:
        """Add bytes, and yield the type, sequence number and payload of each complete frame."""
        self._buffer += content
        while (start := self._buffer.find(_SYNC)) >= 0:
            del self._buffer[:start]
            begin = len(_SYNC) + _HEADER.size
            if len(self._buffer) < begin:
                return
            kind, sequence, length = _HEADER.unpack_from(self._buffer, len(_SYNC))
            end = begin + length
            if length <= self.most_bytes:
                if len(self._buffer) < end + _CHECK.size:
                    return
                (check,) = _CHECK.unpack_from(self._buffer, end)
                if check == zlib.crc32(self._buffer[len(_SYNC) : end]):
                    payload = bytes(self._buffer[begin:end])
                    del self._buffer[: end + _CHECK.size]
                    yield kind, sequence, payload
                    continue
            del self._buffer[: len(_SYNC)]  # no frame starts here, but one may in its bytes
        del self._buffer[: -(len(_SYNC) - 1)]

    def clear(self) -> None:
        """Drop the bytes of a frame that never became complete."""
        self._buffer.clear()


class BoardConnection:
    """A connection to a board, which answers requests.

    Args:
        port: the port.
        name: the name of the port, for messages.
        first_timeout_s: the wait for the first reply; later ones follow the replies so far.
    """

    def __init__(
        self, port: Port, name: str | Path, first_timeout_s: float = _FIRST_TIMEOUT_S
    ) -> None:
        self._port, self._name = port, make_printable(str(name))
        self._reader = FrameReader()
        # Replies to an earlier process may still arrive, so the first number is random.
        self._sequence = secrets.randbits(32)
        self._first_timeout_s = first_timeout_s
        self._slowest_s: dict[int, float] = {}  # the slowest reply of each type so far
        self.facts = FirmwareFacts.parse(self._request(_DESCRIBE))
        self._reply_size = 4 + sum(tensor.size for tensor in self.facts.outputs)
        self._reader.most_bytes = max(self._reader.most_bytes, self._reply_size)

    def infer(self, inputs: bytes) -> tuple[bytes, int]:
        """Return the bytes of all outputs for the bytes of all inputs, and the count of the call.

        Raises:
            TargetError: the board returns no reply, or refuses the request.
        """
        reply = self._request(_INFER, inputs)
        if len(reply) != self._reply_size:
            raise TargetError(
                f"the board at {self._name} returned {len(reply)} bytes instead of"
                f" {self._reply_size}; flash its firmware again"
            )
        return reply[4:], int.from_bytes(reply[:4], "little")

    def _request(self, kind: int, payload: bytes = b"") -> bytes:
        """Send a request until its reply arrives; return the payload of the reply."""
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        frame = make_frame(kind, self._sequence, payload)
        timeout_s = self._first_timeout_s
        if kind in self._slowest_s:
            timeout_s = min(timeout_s, max(4 * self._slowest_s[kind], _SHORTEST_TIMEOUT_S))
        for attempt in range(ATTEMPTS):
            # Zeros complete a frame whose bytes were lost, so that the board looks for the next.
            # Before the first reply, the length of that frame is unknown.
            zeros = len(frame) if self._slowest_s else 512 << attempt
            sent = bytes(zeros) + frame if attempt else frame
            self._port.write(sent)
            started = time.monotonic()
            reply = self._wait(kind, timeout_s + 2 * len(sent) / BYTES_PER_SECOND)
            if reply is not None:
                reply_s = time.monotonic() - started
                self._slowest_s[kind] = max(reply_s, self._slowest_s.get(kind, 0))
                return reply
            self._reader.clear()
            timeout_s = min(2 * timeout_s, _LONGEST_TIMEOUT_S)
        if self._slowest_s:
            raise TargetError(
                f"the board at {self._name} replies no more, after {ATTEMPTS} attempts; reset it,"
                " and run the command again"
            )
        raise TargetError(
            f"the board at {self._name} does not reply; flash the firmware that lenet-edge export"
            " --format firmware writes, and reset the board"
        )

    def _wait(self, kind: int, timeout_s: float) -> bytes | None:
        """Return the payload of the reply to the current request; None if it does not arrive."""
        deadline = time.monotonic() + timeout_s
        while (rest_s := deadline - time.monotonic()) > 0:
            content = self._port.read(rest_s)
            if not content:
                return None
            for reply_kind, sequence, payload in self._reader.feed(content):
                if sequence != self._sequence:
                    continue
                if reply_kind == kind | _REPLY:
                    return payload
                if reply_kind == _REFUSED and len(payload) == 1:
                    reason = _REASONS.get(payload[0], "its firmware is of another version")
                    raise TargetError(
                        f"the board at {self._name} refuses the request: {reason}; export and flash"
                        " its firmware again"
                    )
        return None

    def close(self) -> None:
        """Close the port."""
        self._port.close()
