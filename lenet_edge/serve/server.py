"""The server: where it listens, its limits, and how it ends.

One thread listens; one more asks the models, image by image. Whatever a client sends is bounded in
size and time, and so is the queue: who comes when it is full is told at once to come again.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream, StreamClosedError
from tornado.netutil import bind_sockets
from tornado.web import Application

from lenet_edge.errors import LenetEdgeError
from lenet_edge.serve.access import Access
from lenet_edge.serve.handlers import State, routes
from lenet_edge.serve.models import Models

MAX_CONNECTIONS = 200
_HEADER_TIMEOUT_S = 10.0  # also how long an idle connection is kept
_BODY_TIMEOUT_S = 20.0
_GRACE_S = 10.0  # for requests in flight, at the end
_QUIET = 10  # looks, 20 ms apart, that must find none in flight


class _Server(HTTPServer):
    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        if len(self._connections) < MAX_CONNECTIONS:
            super().handle_stream(stream, address)
            return
        with contextlib.suppress(StreamClosedError):
            stream.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        stream.close()


def bind(host: str, port: int) -> list[socket.socket]:
    """Return the sockets to listen on; port 0 takes any that is free.

    Raises:
        LenetEdgeError: the address is not this machine's, or the port is taken.
    """
    try:
        return bind_sockets(port, host)
    except OSError as error:
        raise LenetEdgeError(
            f"cannot listen on {host}, port {port}: {error.strerror};"
            " choose others with --host and --port"
        ) from error


def addresses(host: str, sockets: list[socket.socket], access: Access) -> list[str]:
    """Return what to open in a browser, with the token where one is needed."""
    port = sockets[0].getsockname()[1]
    names = [host]
    if host in ("", "0.0.0.0", "::"):
        names = [socket.gethostname(), *_own_addresses()]
    query = f"?token={access.token}" if access.token else ""
    return [f"http://{f'[{one}]' if ':' in one else one}:{port}/{query}" for one in names]


def _own_addresses() -> list[str]:
    """Return the address that others reach this machine by, if it has a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # RFC 5737: nobody's; and UDP sends nothing to connect
        except OSError:
            return []
        return [str(probe.getsockname()[0])]


async def run(
    models: Models, access: Access, sockets: list[socket.socket], ready: Callable[[], None]
) -> None:
    """Serve until SIGTERM or SIGINT, and then until the requests in flight are answered.

    Args:
        models: what answers.
        access: who may ask.
        sockets: where to listen, from `bind`.
        ready: called when requests are taken.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    state = State(models, access, sockets[0].getsockname()[1])
    application = Application(routes(state), log_function=lambda handler: None)
    server = _Server(
        application, idle_connection_timeout=_HEADER_TIMEOUT_S, body_timeout=_BODY_TIMEOUT_S,
        max_header_size=16_384, max_body_size=65_536, max_buffer_size=2**20,
    )  # fmt: skip
    server.add_sockets(sockets)
    ready()
    await stop.wait()
    server.stop()
    state.ending = True
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(_until_answered(state), _GRACE_S)
    models.stop()
    state.asking.shutdown()
    await server.close_all_connections()


async def _until_answered(state: State) -> None:
    """Return when no request is left, nor one on its way from who was answered just before."""
    quiet = 0
    while quiet < _QUIET:
        quiet = 0 if state.in_flight else quiet + 1
        await asyncio.sleep(0.02)
