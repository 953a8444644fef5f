"""Tasks with hostile results, and a board that asks the scheduler for more than a worker may."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distributed.comm import connect
from distributed.protocol.serialize import Serialize, ToPickle
from distributed.security import Security

from lenet_edge.fleet.certificates import Certificates


def record(folder: str) -> None:
    """Make a folder named by the process that runs this."""
    Path(folder, str(os.getpid())).mkdir(exist_ok=True)


class Payload:
    """An object whose unpickling is recorded."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return record, (self._folder,)


class PayloadError(Exception):
    """An exception whose unpickling is recorded."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return record, (self.args[0],)


def return_payload(folder: str) -> Payload:
    return Payload(folder)


def raise_payload(folder: str) -> None:
    raise PayloadError(folder)


async def attack(address: str, pems: Certificates, folder: Path) -> None:
    """Connect as a board does, and send the scheduler pickles and requests of clients."""
    security = Security(
        require_encryption=True, tls_ca_file=pems.authority, tls_client_cert=pems.board
    )
    arguments = security.get_connection_args("client")
    function = pickle.dumps(record)
    messages: list[Any] = [
        {"op": "run_function", "function": function, "args": pickle.dumps((str(folder),))},
        {"op": "ping", "x": ToPickle(Payload(str(folder)))},
        {"op": "ping", "x": Serialize(Payload(str(folder)))},
        {"op": "register_scheduler_plugin", "plugin": pickle.dumps(Payload(str(folder)))},
        {"op": "register-client", "client": "x", "versions": {}},
        {"op": "terminate"},
        {"op": ["ping"]},
    ]
    for message in messages:
        comm = await connect(address, timeout=5, **arguments)
        await comm.write(message)
        with contextlib.suppress(OSError, TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(comm.read(), 1)
        comm.abort()
