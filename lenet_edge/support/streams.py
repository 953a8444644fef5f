"""Standard streams for every environment: closed, full, without a reader, and with any encoding.

The next file that a process opens gets the lowest free descriptor. With a closed standard stream,
a model file or a worker's pipe becomes standard input or output.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

from lenet_edge.errors import LenetEdgeError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def fill_descriptors() -> None:
    """Open the null device on each of the descriptors 0 to 2 that is closed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, descriptor)  # also makes it inheritable
            if null != descriptor:
                os.close(null)


def open_standard_streams() -> None:
    """Replace Python's standard streams by ones that suit the commands.

    Closed streams read and write nothing. Characters that the encoding lacks are written with
    backslashes. A write error of standard output raises a LenetEdgeError, or SystemExit if the
    reader of a pipe has ended. Standard error discards what it cannot write. Streams that the
    caller has already replaced remain.
    """
    fill_descriptors()
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is sys.__stdout__:
        sys.stdout = _open_output(_Descriptor(1), sys.__stdout__)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _open_output(_Descriptor(2), sys.__stderr__)


def _open_output(raw: io.RawIOBase, original: TextIO | None) -> TextIO:
    """Return a text stream with the settings of Python's own; `original` is None if closed."""
    # The text stream collects the writes. A buffer of its own would write a text twice if Ctrl-C
    # comes between the system call and the buffer's note of it.
    buffer: Any = raw
    if isinstance(original, io.TextIOWrapper):
        return io.TextIOWrapper(
            buffer,
            original.encoding,
            "backslashreplace",
            line_buffering=original.line_buffering,
            write_through=original.write_through,
        )
    return io.TextIOWrapper(buffer, "utf-8", line_buffering=True)


class _Descriptor(io.FileIO):
    """Descriptor of standard output or standard error. After an error it discards all data.

    The interpreter writes buffered data once more when it ends, and would report a second error.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._failed = False

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all bytes, and return their number."""
        size, rest = memoryview(data).nbytes, memoryview(data).cast("B")
        while rest and not self._failed:
            try:
                rest = rest[super().write(rest) or 0 :]
            except OSError as error:
                self._failed = True
                if self.fileno() == 1:
                    _report(error)
        return size


def _report(error: OSError) -> None:
    if error.errno == errno.EPIPE:
        raise SystemExit(1)  # quietly: "| head" needs no more lines
    raise LenetEdgeError(
        f"cannot write to standard output: {error.strerror}; check where it leads"
    ) from error
