"""Ports that connect a board: a serial device, a pseudo-terminal, or an emulator's Unix socket.

A port is opened with `termios`, which needs no package.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
import time
from collections.abc import Iterator
from typing import Any, Protocol

from lenet_edge.errors import TargetError
from lenet_edge.support import portable
from lenet_edge.support.printable import make_printable

fcntl: Any
termios: Any
try:
    import fcntl
    import termios
except ImportError:  # on Windows
    fcntl = termios = None

BYTES_PER_SECOND = 11_520
_WRITE_TIMEOUT_S = 5.0  # on top of twice the time that the bytes take on the line


class Port(Protocol):
    """A connection that carries bytes."""

    def write(self, content: bytes) -> None:
        """Send bytes."""

    def read(self, timeout_s: float) -> bytes:
        """Return the bytes that have arrived; none if the timeout ends first."""

    def close(self) -> None:
        """Close the connection."""


class SerialPort:
    """A serial device, pseudo-terminal or Unix socket, for this process alone.

    Raises:
        TargetError: it cannot be opened, or the board disconnects.
    """

    def __init__(self, path: str) -> None:
        self._path = make_printable(path)
        if termios is None:
            raise TargetError("this system has no termios for serial ports; use Linux or macOS")
        try:
            is_socket = stat.S_ISSOCK(os.stat(path).st_mode)
            if is_socket:
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.connect(path)
                    self._descriptor = connection.detach()
            else:
                flags = os.O_RDWR | portable.NOCTTY | portable.NONBLOCK | portable.CLOEXEC
                self._descriptor = os.open(path, flags)
        except OSError as error:
            raise TargetError(self._describe_open(error)) from None
        try:
            if not is_socket:
                self._configure()
            os.set_blocking(self._descriptor, False)
        except BaseException:
            os.close(self._descriptor)
            raise

    def _describe_open(self, error: OSError) -> str:
        if error.errno == errno.ENOENT:
            return f"there is no port {self._path}; connect the board, and list: ls /dev/tty[AU]*"
        if error.errno in (errno.EACCES, errno.EPERM):
            return (
                f"the port {self._path} may not be opened; add yourself to its group (Debian:"
                " adduser $USER dialout) and log in again"
            )
        if error.errno == errno.EBUSY:
            return self._describe_busy()
        return f"the port {self._path} cannot be opened: {error.strerror}; name a serial port"

    def _describe_busy(self) -> str:
        return f"another program has opened {self._path}; close it, such as a serial monitor"

    def _configure(self) -> None:
        """Set 115,200 baud, 8 bits, no translation; lock the port; drop old bytes."""
        try:
            settings = termios.tcgetattr(self._descriptor)
        except termios.error:
            raise TargetError(f"{self._path} is no serial port; name one: /dev/ttyACM0") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TargetError(self._describe_busy()) from None
        try:
            characters = settings[6]
            # With 1, a read of no bytes means that the board has disconnected.
            characters[termios.VMIN], characters[termios.VTIME] = 1, 0
            control = termios.CS8 | termios.CREAD | termios.CLOCAL
            termios.tcsetattr(
                self._descriptor,
                termios.TCSANOW,
                [0, 0, control, 0, termios.B115200, termios.B115200, characters],
            )
            termios.tcflush(self._descriptor, termios.TCIOFLUSH)
        except termios.error as error:
            raise TargetError(f"{self._path} cannot be set up: {error.args[-1]}") from None

    def write(self, content: bytes) -> None:
        """Send bytes."""
        rest = memoryview(content)
        deadline = time.monotonic() + _WRITE_TIMEOUT_S + 2 * len(content) / BYTES_PER_SECOND
        while rest:
            rest_s = deadline - time.monotonic()
            if rest_s <= 0 or not select.select([], [self._descriptor], [], rest_s)[1]:
                raise TargetError(f"the board at {self._path} takes no bytes; reset it")
            with self._one_line_errors():
                rest = rest[os.write(self._descriptor, rest) :]

    def read(self, timeout_s: float) -> bytes:
        """Return the bytes that have arrived; none if the timeout ends first."""
        deadline = time.monotonic() + timeout_s
        while (rest_s := deadline - time.monotonic()) > 0:
            if select.select([self._descriptor], [], [], rest_s)[0]:
                with self._one_line_errors():
                    content = os.read(self._descriptor, 1 << 16)
                    if not content:
                        raise OSError(errno.ENODEV, "it was removed or switched off")
                    return content
        return b""

    @contextlib.contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except BlockingIOError:
            pass
        except OSError as error:
            raise TargetError(
                f"the board at {self._path} disconnected ({error.strerror}); connect it, and run"
                " the command again"
            ) from None

    def close(self) -> None:
        """Close the port."""
        os.close(self._descriptor)
