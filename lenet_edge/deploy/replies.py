"""The replies of a board: framed, bounded in size and time, and of known types.

A board may print a greeting, reply with anything, or never reply. Each session has a random marker
that only its program knows. A reply is a line "MARKER JSON". A reply that announces content is
followed by that number of bytes. Everything else that the board prints is discarded, up to a limit.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import select
import time
from dataclasses import dataclass
from typing import IO, Any

from lenet_edge.support.printable import make_printable
from lenet_edge.support.typed_json import check_types

MAX_REPLY_BYTES = 2**20
MAX_CONTENT_BYTES = 2**25
MAX_OTHER_BYTES = 2**20  # output of login scripts
_MAX_TEXT = 500  # characters of a line that is shown
_CHUNK = 2**16


class InvalidReplyError(Exception):
    """A board sent something else than a reply, or nothing in time; the message says what."""


@dataclass(frozen=True)
class BoardFacts:
    """The facts about a board that decide a deployment, from `on_board.describe_board`.

    Raises:
        ValueError: a fact is impossible; some of them become names of files and packages.
    """

    model: str | None
    system: str
    codename: str | None
    machine: str
    python: tuple[int, int, int]
    glibc: str | None
    home: str
    writable: bool
    free_bytes: int
    time_s: float
    temperature_celsius: float | None
    throttled: str | None
    systemd: bool
    has_numpy: bool
    in_use: dict[str, str] | None
    environments: tuple[str, ...]

    def __post_init__(self) -> None:
        check_types(self)
        if not re.fullmatch(r"[a-z0-9_]{1,32}", self.machine, re.ASCII):
            raise ValueError(f"machine is {self.machine!r:.60}")
        if not re.fullmatch(r"2\.\d{1,3}", self.glibc or "2.0", re.ASCII):
            raise ValueError(f"glibc is {self.glibc!r:.60}")
        if not all(0 <= part < 1000 for part in self.python):
            raise ValueError(f"python is {self.python!r:.60}")
        if not 0 <= self.time_s < 2**40:
            raise ValueError(f"time_s is {self.time_s!r:.60}")


@dataclass(frozen=True)
class CommandResult:
    """Exit status of a command on the board, and its last line on standard error."""

    status: int
    last: str


def to_type(value: Any, kind: Any) -> Any:
    """Return a JSON value as a dataclass or another annotated type; lists become tuples.

    Raises:
        ValueError: the value does not have this type.
    """
    value = _with_tuples(value)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ValueError(f"it is {value!r:.60}")
        try:
            value = kind(**value)
        except TypeError as error:  # the fields have other names
            raise ValueError(str(error)) from None
    check_types(value, type(None) if kind is None else kind, "the result")
    return value


def _with_tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_with_tuples, value))
    if isinstance(value, dict):
        return {key: _with_tuples(item) for key, item in value.items()}
    return value


def clean_text(text: str) -> str:
    """Return a line from a board for a terminal: no control characters, and not long."""
    return make_printable(" ".join(text[: 2 * _MAX_TEXT].split()))[:_MAX_TEXT]


class ReplyReader:
    """A reader of the replies in the output of a board's program."""

    def __init__(self, stream: IO[bytes], marker: str) -> None:
        self._descriptor, self._marker = stream.fileno(), marker.encode() + b" "
        self._buffer = bytearray()
        self._other_bytes = 0

    def read(self, deadline: float) -> dict[str, Any]:
        """Return the next reply; an announced content replaces its size.

        Args:
            deadline: the end of the wait, by `time.monotonic`.

        Raises:
            EOFError: the output ended.
            InvalidReplyError: there is no valid reply in time, or it is too long.
        """
        line = self._read_line(deadline)
        try:
            reply = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidReplyError(f"it is not JSON: {clean_text(str(error))}") from None
        if not isinstance(reply, dict):
            raise InvalidReplyError(f"it is {clean_text(repr(reply)[:60])}")
        if "content" in reply:
            size = reply["content"]
            if type(size) is not int or not 0 <= size <= MAX_CONTENT_BYTES:
                raise InvalidReplyError(f"its content has {clean_text(repr(size)[:60])} bytes")
            reply["content"] = self._read_content(size, deadline)
        return reply

    def _read_line(self, deadline: float) -> bytes:
        """Return the line of the next reply, without its marker."""
        checked = 0  # the first bytes of the buffer, which contain no newline
        while True:
            end = self._buffer.find(b"\n", checked)
            if end < 0:
                checked = len(self._buffer)
                if checked > MAX_REPLY_BYTES:
                    raise InvalidReplyError(f"a line has more than {MAX_REPLY_BYTES:,} bytes")
                self._buffer += self._receive(deadline)
                continue
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            checked = 0
            if line.startswith(self._marker):
                return line.removeprefix(self._marker)
            self._other_bytes += len(line) + 1
            if self._other_bytes > MAX_OTHER_BYTES:
                raise InvalidReplyError(
                    f"it printed more than {MAX_OTHER_BYTES:,} bytes of other text"
                )

    def _read_content(self, size: int, deadline: float) -> bytes:
        while len(self._buffer) < size:
            self._buffer += self._receive(deadline)
        content = bytes(self._buffer[:size])
        del self._buffer[:size]
        return content

    def _receive(self, deadline: float) -> bytes:
        wait_for(self._descriptor, select.POLLIN, deadline)
        chunk = os.read(self._descriptor, _CHUNK)
        if not chunk:
            raise EOFError
        return chunk


def wait_for(descriptor: int, event: int, deadline: float) -> None:
    """Wait until a pipe can be read or written, or its other end is closed.

    Raises:
        InvalidReplyError: this takes until the deadline.
    """
    poll = select.poll()
    poll.register(descriptor, event)
    left_s = deadline - time.monotonic()
    if left_s <= 0 or not poll.poll(left_s * 1000):
        raise InvalidReplyError("it took too long")
