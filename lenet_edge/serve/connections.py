"""The connections of the server: their number, half-closed ones, and accept() without descriptors.

Tornado closes a connection as soon as the client ends its side, and logs a traceback for each
accept() that finds no free descriptor. Both would lose responses of other requests.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
import time
from collections.abc import Callable
from http.client import responses
from pathlib import Path
from typing import Any

from tornado.iostream import IOStream, StreamClosedError

from lenet_edge.support import portable

MAX_CONNECTIONS = 200
_MIN_CONNECTIONS = 4
_SPARE_DESCRIPTORS = 24  # to start two workers, to read files, and to refuse a connection
_PER_CONNECTION = 2  # a connection and its upload
_MIN_IDLE_S = 1.0  # a connection this young may have sent a request that is not yet read
_LOG_INTERVAL_S = 60.0
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_log = logging.getLogger(__name__)


def short_response(status: int, message: str) -> bytes:
    """Return a whole response for a connection that is then closed."""
    body = json.dumps({"error": message})
    retry = "Retry-After: 1\r\n" if status == 503 else ""
    return (
        f"HTTP/1.1 {status} {responses[status]}\r\nContent-Type: application/json\r\n{retry}"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


class ServerStream(IOStream):
    """A connection that remains open for the response after the client ended its side."""

    has_partial_request = False
    _is_half_closed = False

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """Read from the socket; an end during a response is no end of the connection."""
        count = super().read_from_fd(buf)
        if count:
            self.has_partial_request = True
        elif count == 0 and not self.reading():
            self._is_half_closed = True
            return None
        elif count == 0 and self.has_partial_request:
            with contextlib.suppress(OSError):
                message = "the connection ended before the request did; send it again"
                self.socket.send(short_response(400, message))
        return count

    def _handle_events(self, fd: Any, events: int) -> None:
        super()._handle_events(fd, events)
        if self._is_half_closed and not self.closed() and not self.reading():
            # The end of a connection remains readable: without this, the loop would spin.
            assert self._state is not None
            self._state &= ~self.io_loop.READ
            self.io_loop.update_handler(self.fileno(), self._state)


class Connections:
    """The open connections, with a limit that fits the descriptors of this process.

    At the limit, a new connection replaces the one that has waited longest for its client.
    """

    def __init__(self) -> None:
        self.limit = _connection_limit()
        # Connections that wait for their client, the longest first, and the time of its last act.
        self._waiting: dict[ServerStream, float] = {}
        self._busy: set[ServerStream] = set()
        self._last_log_s = -_LOG_INTERVAL_S

    def admit(self, stream: ServerStream) -> bool:
        """Add a connection, or send 503 and close it."""
        if self._count() >= self.limit:
            self._close_longest_waiting()
        if self._count() < self.limit:
            self._waiting[stream] = time.monotonic()
            return True
        self.log_refusal(f"{self.limit} connections are open")
        with contextlib.suppress(StreamClosedError):
            stream.write(short_response(503, "too many connections; try again in a second"))
        stream.close()
        return False

    def _count(self) -> int:
        return len(self._waiting) + len(self._busy)

    def _close_longest_waiting(self) -> None:
        stream, since = next(iter(self._waiting.items()), (None, 0.0))
        if stream is not None and time.monotonic() - since > _MIN_IDLE_S:
            self.remove(stream)
            stream.close()

    def wait_for_server(self, stream: ServerStream) -> None:
        """Keep a connection open, because its request is complete."""
        if self._waiting.pop(stream, None) is not None:
            self._busy.add(stream)

    def wait_for_client(self, stream: ServerStream) -> None:
        """Note that a request is answered."""
        stream.has_partial_request = False
        if not stream.closed() and (stream in self._busy or stream in self._waiting):
            self.remove(stream)
            self._waiting[stream] = time.monotonic()

    def remove(self, stream: ServerStream) -> None:
        """Forget a connection."""
        self._waiting.pop(stream, None)
        self._busy.discard(stream)

    def log_refusal(self, reason: str) -> None:
        """Log that connections are refused, at most once a minute."""
        if time.monotonic() - self._last_log_s >= _LOG_INTERVAL_S:
            self._last_log_s = time.monotonic()
            _log.warning("%s; further connections are refused", reason)


def _connection_limit() -> int:
    resource = portable.resource
    if resource is None:
        return MAX_CONNECTIONS
    limit: int
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    try:
        open_now = len(list(Path("/dev/fd").iterdir()))
    except OSError:  # Linux without /proc
        open_now = _SPARE_DESCRIPTORS
    free = (limit - open_now - _SPARE_DESCRIPTORS) // _PER_CONNECTION
    return max(_MIN_CONNECTIONS, min(MAX_CONNECTIONS, free))


class Listener(socket.socket):
    """A listening socket that closes new connections while no descriptor is free."""

    def __init__(self, listening: socket.socket) -> None:
        super().__init__(fileno=listening.detach())
        self.setblocking(False)
        self.on_refusal: Callable[[str], None] = lambda reason: None
        self._spare = os.open(os.devnull, os.O_RDONLY | portable.CLOEXEC)

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection.

        Raises:
            BlockingIOError: there is no connection, or no descriptor for it.
        """
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in _NO_DESCRIPTORS:
                raise
            self.on_refusal(os.strerror(error.errno))
            self._refuse()
            raise BlockingIOError from None

    def _refuse(self) -> None:
        """Accept a connection with the spare descriptor, and close it.

        A connection that stays in the queue would wake the event loop without end.
        """
        os.close(self._spare)
        with contextlib.suppress(OSError):
            super().accept()[0].close()
        self._spare = os.open(os.devnull, os.O_RDONLY | portable.CLOEXEC)

    def close(self) -> None:
        """Close the socket."""
        if self.fileno() >= 0:
            os.close(self._spare)
        super().close()
