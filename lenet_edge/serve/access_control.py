"""Checks of the Host, Origin and token of each request.

Every program on the machine can connect to a server on the loopback address, and so can every
web page in a local browser. Two checks exclude web pages: the ``Origin`` must be that of this
server, and the ``Host`` must name the loopback address. The second prevents DNS rebinding, where
a foreign name points to 127.0.0.1. On other addresses, requests need a random token. The printed
address contains it, and the browser keeps it in a cookie that no other site can send or read.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from urllib.parse import urlsplit

from lenet_edge.errors import LenetEdgeError

# The page loads nothing from other servers, runs no inline code and cannot be framed. It may
# compile WebAssembly, which this server sends.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self';"
        " img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "lenet-edge",
}


class AccessControl:
    """The checks of a server that listens on one address."""

    def __init__(self, host: str) -> None:
        self.token = None if _is_loopback(host) else secrets.token_urlsafe(24)

    def host_error(self, host: str) -> str | None:
        """Return why a ``Host`` header is refused, or None."""
        if self.token is None and not _names_loopback(host):
            return f"this server accepts requests to localhost, not to {host[:100]!r}"
        return None

    def origin_error(self, origin: str | None, host: str) -> str | None:
        """Return why a request from a page of `origin` is refused, or None."""
        if origin is None or origin in (f"http://{host}", f"https://{host}"):
            return None
        return "this server refuses requests from pages of other sites"

    def token_error(self, *tokens: str | None) -> str | None:
        """Return why all of these tokens are refused, or None."""
        if self.token is None or any(
            token and hmac.compare_digest(token.encode(), self.token.encode()) for token in tokens
        ):
            return None
        return "a token is missing; open the address that lenet-edge serve printed"


def _is_loopback(host: str) -> bool:
    try:
        addresses = socket.getaddrinfo(host or "0.0.0.0", None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise LenetEdgeError(
            f"--host {host} is not an address of this machine ({error.strerror}); try 127.0.0.1"
        ) from error
    # Without the scope of an IPv6 address, such as %eth0.
    hosts = (str(address[4][0]).split("%")[0] for address in addresses)
    return all(ipaddress.ip_address(numeric).is_loopback for numeric in hosts)


def _names_loopback(host: str) -> bool:
    """Return whether a ``Host`` header names the loopback address."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
