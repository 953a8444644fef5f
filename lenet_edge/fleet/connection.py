"""Connections to a Dask scheduler, and the boards that are connected to it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lenet_edge.errors import LenetEdgeError, MissingPackageError
from lenet_edge.fleet import certificates
from lenet_edge.fleet.certificates import EXTRA
from lenet_edge.support.printable import make_printable
from lenet_edge.support.typed_json import check_types

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

HOST = "127.0.0.1"  # the loopback address, where the scheduler of `fleet up` listens
RESOURCE = "board"  # a worker has one and every task takes one, so tasks never run together
_NAME = re.compile(r"[\w.:/@ -]{1,100}", re.ASCII)  # of a worker; Dask's default is its address
_VERSION_TIMEOUT_S = 60
# Packages whose versions must be equal on both sides: calls name functions of lenet-edge, and
# Dask's protocol changes between its versions.
_SHARED = ("lenet-edge", "distributed")


@dataclass(frozen=True)
class FleetBoard:
    """A board of a fleet: its name, and the address of its Dask worker."""

    name: str
    address: str

    def __str__(self) -> str:
        return self.name


class NoSchedulerError(LenetEdgeError):
    """No scheduler listens at an address, or it refuses our certificate."""


@contextlib.contextmanager
def connect(address: str, timeout_s: float = 10) -> Iterator[Client]:
    """Yield a client of the scheduler at `address`.

    For a scheduler of `fleet up`, TLS uses the fleet's certificates. For others, Dask's
    configuration names them.

    Raises:
        MissingPackageError: Dask is not installed.
        NoSchedulerError: no scheduler listens there, or it refuses our certificate.
        LenetEdgeError: its TLS settings differ from ours.
    """
    try:
        from distributed import Client
    except ImportError:
        raise MissingPackageError("distributed", EXTRA) from None
    except Exception as error:  # psutil raises its own error without /proc
        raise LenetEdgeError(f"Dask cannot start: {error}; check that /proc is mounted") from error
    if not re.fullmatch(r"(tcp|tls)://\S+:\d+", address):
        raise LenetEdgeError(
            f"{address!r} is not the address of a scheduler; give one such as tls://127.0.0.1:8786"
        )
    from lenet_edge.fleet import untrusted

    untrusted.install()
    security = _security_for(address)
    # Dask's errors are reported as ours; its log lines would repeat them.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other Python versions; `check_versions` decides
            client = Client(address, timeout=timeout_s, security=security, set_as_default=False)
    except (OSError, TypeError, ValueError, RuntimeError) as error:
        cause = " ".join(str(error).split())
        raise NoSchedulerError(
            f"no scheduler answers at {address} ({cause}); start one with: lenet-edge fleet up"
        ) from error
    try:
        with client.as_current():  # `distributed.wait` uses the current client
            yield client
    finally:
        client.close(timeout=5)


def _security_for(address: str) -> Security:
    """Return the TLS settings for a scheduler.

    Raises:
        LenetEdgeError: there are none that fit the address.
    """
    from distributed.security import Security

    scheme, _, rest = address.partition("://")
    host, _, port = rest.rpartition(":")
    if host in (HOST, "localhost") and (pems := certificates.load(int(port))):
        if scheme == "tcp":
            raise LenetEdgeError(f"{address} is a fleet that takes TLS; use tls://{rest}")
        return Security(
            require_encryption=True, tls_ca_file=pems.authority, tls_client_cert=pems.client
        )
    # A client that fails at this logs the error again much later.
    try:
        security = Security()
        has_certificates = bool(security.get_connection_args("client").get("ssl_context"))
    except (OSError, ValueError) as error:
        raise LenetEdgeError(f"Dask's TLS configuration cannot be used: {error}") from error
    if scheme == "tls" and not has_certificates:
        raise NoSchedulerError(
            f"no scheduler answers at {address} (no fleet of yours is there, and Dask's"
            " configuration names no certificates); start one with: lenet-edge fleet up"
        )
    if scheme == "tcp" and security.require_encryption:
        raise LenetEdgeError(
            f"{address} is not encrypted, and Dask's configuration requires it; use tls://"
        )
    return security


@dataclass(frozen=True)
class ConnectedWorker:
    """A worker of a scheduler; it states all of these facts itself, except its address."""

    name: str
    address: str
    resources: dict[str, float]
    last_seen: float


def connected_workers(client: Client) -> list[ConnectedWorker]:
    """Return the workers that are connected, sorted by name.

    Raises:
        LenetEdgeError: a worker states impossible facts about itself.
    """
    workers = []
    for address, facts in client.scheduler_info()["workers"].items():
        try:
            name = str(facts["name"])  # Dask turns a number into an int
            worker = ConnectedWorker(name, address, facts["resources"], facts["last_seen"])
            check_types(worker)
            if not _NAME.fullmatch(name):
                raise ValueError(f"its name is {name!r:.80}")
        except (ValueError, KeyError, TypeError) as error:
            cause = make_printable(f"{error}"[:200])
            raise LenetEdgeError(
                f"the worker at {address!r:.80} is no board ({cause}); names have at most 100"
                " letters, digits, spaces and characters of - _ . : / @; stop it"
            ) from error
        workers.append(worker)
    return sorted(workers, key=lambda worker: worker.name)


def connected_boards(client: Client) -> list[FleetBoard]:
    """Return the workers that were started as boards, sorted by name.

    Raises:
        LenetEdgeError: no worker was started as a board.
    """
    workers = connected_workers(client)
    boards = [
        FleetBoard(worker.name, worker.address)
        for worker in workers
        if worker.resources.get(RESOURCE)
    ]
    if not boards:
        cause = f"none of its {len(workers)} workers is" if workers else "it has no worker that is"
        raise LenetEdgeError(
            f"{client.scheduler.address}: {cause} a board; start them with: lenet-edge fleet up,"
            f" or: dask worker ADDRESS --nthreads 1 --resources {RESOURCE}=1"
        )
    return boards


def check_versions(client: Client, boards: Sequence[FleetBoard]) -> None:
    """Check that the boards have this machine's versions of the packages in `_SHARED`.

    A board that does not reply passes; the driver will detect it.

    Raises:
        LenetEdgeError: a board has another version, or lacks the package.
    """
    from distributed import wait

    # A function of Python itself runs on every board, whatever is installed there.
    futures = {
        (package, board): client.submit(
            importlib.metadata.version, package,
            workers=[board.address], resources={RESOURCE: 1}, pure=False,
        )
        for package in _SHARED
        for board in boards
    }  # fmt: skip
    with contextlib.suppress(TimeoutError):
        wait(list(futures.values()), timeout=_VERSION_TIMEOUT_S)
    wrong: dict[tuple[str, str], list[str]] = {}
    for (package, board), future in futures.items():
        if future.status in ("finished", "error"):
            result = future.result() if future.status == "finished" else ""
            version = make_printable(str(result)[:40])
            if version != importlib.metadata.version(package):
                wrong.setdefault((package, version), []).append(board.name)
    if wrong:
        differences = [
            f"{', '.join(names)} {'have' if len(names) > 1 else 'has'}"
            f" {f'{package} {version}' if version else f'no {package}'}, this machine"
            f" {importlib.metadata.version(package)}"
            for (package, version), names in wrong.items()
        ]
        pins = " ".join(f"{name}=={importlib.metadata.version(name)}" for name in _SHARED)
        raise LenetEdgeError(f"{'; '.join(differences)}; on each board: pip install {pins}")
