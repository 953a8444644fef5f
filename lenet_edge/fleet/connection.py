"""The boards behind a Dask scheduler: who they are, and whether they speak our version."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lenet_edge.errors import LenetEdgeError, MissingPackageError

if TYPE_CHECKING:
    from distributed import Client

RESOURCE = "board"  # a worker has one of it and every task takes it: what runs there runs alone
EXTRA = "fleet"
_ANSWER_S = 60
# Both ends must agree on these: what is sent are names of our functions, in Dask's protocol.
_SHARED = ("lenet-edge", "distributed")


@dataclass(frozen=True)
class Board:
    """A worker: `name` is what its owner calls it, `address` where the scheduler finds it."""

    name: str
    address: str

    def __str__(self) -> str:
        return self.name


@contextlib.contextmanager
def connect(address: str, timeout_s: float = 10) -> Iterator[Client]:
    """Yield a client of the scheduler at `address`; TLS is taken from Dask's configuration.

    Raises:
        MissingPackageError: Dask is not installed.
        LenetEdgeError: there is no scheduler, or not one that we may speak to.
    """
    try:
        from distributed import Client
    except ImportError:
        raise MissingPackageError("distributed", EXTRA) from None
    if not re.fullmatch(r"(tcp|tls)://\S+:\d+", address):
        raise LenetEdgeError(f"{address!r} is no address such as tcp://127.0.0.1:8786")
    _check_security(address)  # Dask's client, when it stops at this, says so again much later
    # Its own words come as errors of ours, or not at all.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # another Python there is no matter; see check_versions
            client = Client(address, timeout=timeout_s, set_as_default=False)
    except (OSError, TypeError, ValueError, RuntimeError) as error:
        cause = " ".join(str(error).split())
        raise LenetEdgeError(
            f"no scheduler answers at {address} ({cause}); start one with: lenet-edge fleet up"
        ) from error
    try:
        with client.as_current():  # which `wait` asks
            yield client
    finally:
        client.close(timeout=5)


def _check_security(address: str) -> None:
    """Refuse an address that Dask's TLS configuration does not fit."""
    from distributed.security import Security

    try:
        security = Security()
        has_certificates = bool(security.get_connection_args("client").get("ssl_context"))
    except (OSError, ValueError) as error:
        raise LenetEdgeError(f"Dask's TLS configuration cannot be used: {error}") from error
    if address.startswith("tls") and not has_certificates:
        raise LenetEdgeError(
            f"{address} takes certificates, and Dask's configuration names none; docs/fleet.md"
            " shows how"
        )
    if address.startswith("tcp") and security.require_encryption:
        raise LenetEdgeError(
            f"{address} is not encrypted, and Dask's configuration requires that; use tls://"
        )


def boards_of(client: Client) -> list[Board]:
    """Return the workers that offer themselves as boards, by name.

    Raises:
        LenetEdgeError: there are none.
    """
    workers: Mapping[str, Any] = client.scheduler_info()["workers"]
    found = [
        Board(str(facts["name"]), address)
        for address, facts in workers.items()
        if facts["resources"].get(RESOURCE)
    ]
    if not found:
        others = f"none of its {len(workers)} workers is" if workers else "it has no worker that is"
        raise LenetEdgeError(
            f"{client.scheduler.address}: {others} a board; start them with: lenet-edge fleet up,"
            f" or: dask worker ADDRESS --nthreads 1 --resources {RESOURCE}=1"
        )
    return sorted(found, key=lambda one: one.name)


def check_versions(client: Client, boards: Sequence[Board]) -> None:
    """Refuse boards whose packages would not understand ours, before anything else is sent.

    A board that does not answer is left for the conductor to find.

    Raises:
        LenetEdgeError: a board has another version, or none.
    """
    from distributed import wait

    # A function of Python's own: it can be asked whatever is installed there.
    asked = {
        (package, board): client.submit(
            importlib.metadata.version, package,
            workers=[board.address], resources={RESOURCE: 1}, pure=False,
        )
        for package in _SHARED
        for board in boards
    }  # fmt: skip
    with contextlib.suppress(TimeoutError):
        wait(list(asked.values()), timeout=_ANSWER_S)
    wrong: dict[tuple[str, str], list[str]] = {}
    for (package, board), future in asked.items():
        if future.status in ("finished", "error"):
            version = str(future.result()) if future.status == "finished" else ""
            if version != importlib.metadata.version(package):
                wrong.setdefault((package, version), []).append(board.name)
    if wrong:
        said = [
            f"{', '.join(names)} {'have' if len(names) > 1 else 'has'}"
            f" {f'{package} {version}' if version else f'no {package}'}, this machine"
            f" {importlib.metadata.version(package)}"
            for (package, version), names in wrong.items()
        ]
        pins = " ".join(f"{name}=={importlib.metadata.version(name)}" for name in _SHARED)
        raise LenetEdgeError(f"{'; '.join(said)}; on each board: pip install {pins}")
