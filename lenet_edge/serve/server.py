"""The HTTP server: its sockets, limits and shutdown.

One thread handles the connections, a second decodes images, and a third runs the models, one image
at a time. Requests are limited in size and time. When the queue is full, the server refuses further
requests at once with status 503.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from lenet_edge.errors import LenetEdgeError
from lenet_edge.serve.access_control import AccessControl
from lenet_edge.serve.connections import Connections, Listener, ServerStream
from lenet_edge.serve.handlers import ServerState, routes
from lenet_edge.serve.models import Models

_BUFFER_BYTES = 2**20  # of a connection
_HEADER_TIMEOUT_S = 10.0  # also for an idle connection
_BODY_TIMEOUT_S = 20.0
_SHUTDOWN_TIMEOUT_S = 10.0  # for the requests in flight
_IDLE_POLLS = 10  # polls without a request in flight that end the shutdown
_POLL_S = 0.02


class _Server(HTTPServer):
    """A server with a limited number of connections."""

    limits: Connections

    def _handle_connection(self, connection: socket.socket, address: Any) -> None:
        stream = ServerStream(connection, max_buffer_size=_BUFFER_BYTES)
        if self.limits.admit(stream):
            self.handle_stream(stream, address)

    def on_close(self, server_conn: Any) -> None:
        self.limits.remove(server_conn.stream)
        super().on_close(server_conn)


def bind(host: str, port: int) -> list[Listener]:
    """Return the sockets to listen on; port 0 selects a free port.

    Raises:
        LenetEdgeError: the address is not one of this machine, or the port is in use.
    """
    try:
        return [Listener(listening) for listening in bind_sockets(port, host)]
    except OSError as error:
        raise LenetEdgeError(
            f"cannot listen on {host}, port {port}: {error.strerror};"
            " choose others with --host and --port"
        ) from error


def addresses(host: str, sockets: list[Listener], access: AccessControl) -> list[str]:
    """Return the addresses to open in a browser, with the token if requests need it."""
    port = sockets[0].getsockname()[1]
    names = [host]
    if host in ("", "0.0.0.0", "::"):
        names = [socket.gethostname(), *_own_addresses()]
    query = f"?token={access.token}" if access.token else ""
    return [f"http://{f'[{name}]' if ':' in name else name}:{port}/{query}" for name in names]


def _own_addresses() -> list[str]:
    """Return the address of this machine in its network; an empty list without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # A documentation address (RFC 5737). Connecting a UDP socket sends no packet.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return []
        return [str(probe.getsockname()[0])]


async def run(
    models: Models, access: AccessControl, sockets: list[Listener], ready: Callable[[], None]
) -> None:
    """Serve until SIGTERM or SIGINT, then complete the requests in flight.

    During shutdown, requests on keep-alive connections get 503 and ``Connection: close``.

    Args:
        models: the models.
        access: the checks of each request.
        sockets: the sockets from `bind`.
        ready: called when the server accepts requests.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    connections = Connections()
    state = ServerState(models, access, connections, sockets[0].getsockname()[1])
    application = Application(routes(state), log_function=lambda handler: None)
    server = _Server(
        application, idle_connection_timeout=_HEADER_TIMEOUT_S, body_timeout=_BODY_TIMEOUT_S,
        max_header_size=16_384, max_body_size=65_536,
    )  # fmt: skip
    server.limits = connections
    for listener in sockets:
        listener.on_refusal = connections.log_refusal
    server.add_sockets(sockets)
    ready()
    await stop.wait()
    server.stop()
    state.is_shutting_down = True
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(_wait_until_idle(state), _SHUTDOWN_TIMEOUT_S)
    models.stop()
    state.decoder_thread.shutdown()
    state.model_thread.shutdown()
    await server.close_all_connections()


async def _wait_until_idle(state: ServerState) -> None:
    """Wait until no request has been in flight for several polls.

    A client on a keep-alive connection may send its next request just after a response.
    """
    idle_polls = 0
    while idle_polls < _IDLE_POLLS:
        idle_polls = 0 if state.in_flight else idle_polls + 1
        await asyncio.sleep(_POLL_S)
