"""Free TCP ports for servers that tests start."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Return a free port of the loopback address, at most 60,000 as `fleet up --port` requires."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port if port <= 60_000 else free_port()
