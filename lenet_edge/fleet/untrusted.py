"""Refusal of code from the boards of `fleet up`.

Dask unpickles whatever a peer sends, and a pickle can run any code. Each peer of a fleet proves its
role with its certificate. From boards, and from the scheduler that passes on their messages, only
plain data and the texts of exceptions are accepted. A board may only do what a worker has to do:
it cannot submit tasks, run functions on the scheduler or install plug-ins.

Connections with other certificates, such as those of another Dask cluster, are not affected.
"""

from __future__ import annotations

import builtins
import io
import pickle
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

from distributed import protocol
from distributed.comm.core import CommClosedError
from distributed.comm.tcp import TLS, TLSConnector, TLSListener

from lenet_edge.fleet.certificates import BOARD, SCHEDULER

# The operations of an honest worker; replies have none.
_OPERATIONS = frozenset((
    "register-worker", "heartbeat_worker", "unregister", "task-finished", "task-erred",
    "release-worker-data", "add-keys", "long-running", "reschedule", "keep-alive",
    "worker-status-change", "request-refresh-who-has", "close-stream", "close", "ping",
))  # fmt: skip
# Messages that Dask's client prints.
_EVENTS = frozenset(("event", "print", "warn"))
_reading_untrusted: ContextVar[bool] = ContextVar("reading_untrusted", default=False)
_loads = protocol.pickle.loads


class RemoteError(Exception):
    """An exception of a board, of any class."""


def _exception_of(kind: object, arguments: object, *context: object) -> RemoteError:
    """Return an exception that Dask's tblib has pickled, without its class and its traceback."""
    if isinstance(arguments, dict):  # the attributes of an exception with an __init__ of its own
        arguments = arguments.get("args")
    return RemoteError(*arguments) if isinstance(arguments, tuple) else RemoteError()


class _Unpickler(pickle.Unpickler):
    """An unpickler of plain data and exceptions; it imports nothing and calls nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        kind = getattr(builtins, name, None) if module == "builtins" else None
        if kind is bytes or (isinstance(kind, type) and issubclass(kind, Exception)):
            return kind
        if module == "tblib.pickling_support" and name.startswith("unpickle_exception"):
            return _exception_of
        return RemoteError


def load_pickle(content: bytes, *, buffers: Sequence[Any] = ()) -> Any:
    """Unpickle as Dask does; from an untrusted peer, only plain data and exceptions."""
    if _reading_untrusted.get():
        return _Unpickler(io.BytesIO(content), buffers=buffers).load()
    return _loads(content, buffers=buffers)


class GuardedTLS(TLS):  # type: ignore[misc]  # Dask has no types
    """A TLS connection that accepts no code from a board."""

    async def read(self, deserializers: Any = None) -> Any:
        """Return the next message of the peer."""
        subject = (self.extra_info.get("peercert") or {}).get("subject", ())
        peer = dict(pair for part in subject for pair in part).get("commonName")
        if peer not in (BOARD, SCHEDULER):
            return await super().read(deserializers)
        self.allow_offload = False  # another thread would not know that the peer is untrusted
        token = _reading_untrusted.set(True)
        try:
            message = await super().read(deserializers)
        finally:
            _reading_untrusted.reset(token)
        if isinstance(message, dict):
            if not _is_allowed(message, peer):
                self.abort()
                raise CommClosedError(f"a board may not request {message['op']!r:.60}")
            return _without_pickles(message)
        if isinstance(message, (list, tuple)):
            return [
                _without_pickles(item) if isinstance(item, dict) else item
                for item in message
                if not isinstance(item, dict) or _is_allowed(item, peer)
            ]
        return message


def _is_allowed(message: dict[Any, Any], peer: str) -> bool:
    operation = message.get("op")
    if not isinstance(operation, str):
        return operation is None
    return operation in _OPERATIONS if peer == BOARD else operation not in _EVENTS


def _without_pickles(message: dict[Any, Any]) -> dict[Any, Any]:
    """Replace the pickles that Dask would load later: of an exception, and of a result's type."""
    changed = dict(message)
    if isinstance(message.get("exception"), (bytes, bytearray)):
        try:
            error = _Unpickler(io.BytesIO(message["exception"])).load()
        except Exception:  # a damaged pickle raises any class
            error = None
        is_error = isinstance(error, BaseException)
        changed["exception"] = error if is_error else "an invalid exception of a board"
    if not isinstance(message.get("traceback"), str | None):
        changed["traceback"] = None
    if message.get("op") == "key-in-memory":
        changed["type"] = None
    return changed


def install() -> None:
    """Guard the TLS connections of this process."""
    protocol.pickle.loads = load_pickle
    TLSConnector.comm_class = TLSListener.comm_class = GuardedTLS
