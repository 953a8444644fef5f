"""Who may ask the server: the checks on a request before anything is made of it.

A server on the loopback address is open to every program of its machine, and so to every web page
that a browser there shows. Two things keep pages out: their own ``Origin`` is not ours, and a name
of theirs that they let point to 127.0.0.1 (DNS rebinding) is not one of the loopback's. Beyond the
loopback a random token is demanded, which the printed address carries; the browser keeps it as a
cookie, which no other site's page can send or read.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from urllib.parse import urlsplit

from lenet_edge.errors import LenetEdgeError

# A page gets nothing from elsewhere, runs no inline code and cannot be framed; it may compile
# WebAssembly, which comes from here too.
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


class Access:
    """What a server on one address lets in."""

    def __init__(self, host: str) -> None:
        self.token = None if _is_loopback(host) else secrets.token_urlsafe(24)

    def refuses_host(self, host: str) -> str | None:
        """Return why a ``Host`` header is not taken, or None."""
        if self.token is None and not _names_loopback(host):
            return f"this server answers to localhost, not to {host[:100]!r}"
        return None

    def refuses_origin(self, origin: str | None, host: str) -> str | None:
        """Return why a request from a page of `origin` is not taken, or None."""
        if origin is None or origin in (f"http://{host}", f"https://{host}"):
            return None
        return "pages of other sites may not ask this server"

    def refuses_token(self, *given: str | None) -> str | None:
        """Return why none of the tokens given is taken, or None."""
        if self.token is None or any(
            one and hmac.compare_digest(one.encode(), self.token.encode()) for one in given
        ):
            return None
        return "open the address that lenet-edge serve printed: it carries the token"


def _is_loopback(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host or "0.0.0.0", None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise LenetEdgeError(
            f"--host {host} is no address of this machine ({error.strerror}); try 127.0.0.1"
        ) from error
    return all(ipaddress.ip_address(str(one[4][0]).split("%")[0]).is_loopback for one in found)


def _names_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
