"""Start and stop of a fleet: a scheduler on this machine and a worker on each board, over ssh.

Every process listens on a loopback address only. Two ssh tunnels per board connect the worker to
the scheduler and the scheduler to the worker. No board opens a port to its network, and ssh
detects a board that loses its power.

Every account of a machine can connect to its loopback address. So both ends require TLS, with
certificates that each start of a scheduler makes anew (see `certificates`).
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_edge import worker
from lenet_edge.errors import LenetEdgeError
from lenet_edge.fleet import certificates
from lenet_edge.fleet.certificates import Certificates
from lenet_edge.fleet.connection import (
    HOST,
    RESOURCE,
    NoSchedulerError,
    connect,
    connected_workers,
)
from lenet_edge.fleet.inventory import Entry
from lenet_edge.support import lock
from lenet_edge.support.files import create_log, private_cache_folder
from lenet_edge.support.printable import make_printable
from lenet_edge.support.python_command import python_program

if TYPE_CHECKING:
    from distributed import Client

DEFAULT_PORT = 8786
_START_S = 60.0
_SSH = (
    "BatchMode=yes", "ConnectTimeout=15", "ExitOnForwardFailure=yes",
    "ServerAliveInterval=5", "ServerAliveCountMax=3",
)  # fmt: skip
_SCHEDULER = "distributed.cli.dask_scheduler"
_WORKER = "distributed.cli.dask_worker"
_PROGRAM = Path(__file__).parent / "dask_program.py"
_MAX_LOG_BYTES = 2**26  # a board that prints without end is disconnected
_TAIL_BYTES = 2**16  # of a log, for the message when its process ends


@dataclass(frozen=True)
class StartResult:
    """Result of starting a board: `reason` is the failure, or None if its worker has connected."""

    entry: Entry
    reason: str | None = None


def scheduler_address(port: int = DEFAULT_PORT) -> str:
    """Return the address of this machine's scheduler."""
    return f"tls://{HOST}:{port}"


def up(
    entries: Sequence[Entry],
    port: int,
    logs: Path,
    report: Callable[[StartResult], None] = lambda result: None,
    wait: Callable[[str], None] = lambda holder: None,
) -> list[StartResult]:
    """Start the scheduler and the workers that do not run yet, and leave them running.

    Args:
        entries: the boards.
        port: the scheduler's port; board number i uses port + 1 + i on both sides.
        logs: the folder for the output of the scheduler and the workers.
        report: called when a board has connected or failed.
        wait: called with a description of another process that starts the same fleet.

    Raises:
        LenetEdgeError: the scheduler does not start.
    """
    logs.mkdir(parents=True, exist_ok=True)
    with (
        lock.hold(private_cache_folder("fleet") / f"{port}.lock", "fleet up", wait),
        _scheduler(port, logs) as (client, pems),
    ):
        connected = _connected_names(client)
        starting = {
            entry: _start_worker(entry, port, pems, logs / f"{entry.name}.log")
            for entry in entries
            if entry.name not in connected
        }
        results = [StartResult(entry) for entry in entries if entry not in starting]
        deadline = time.monotonic() + _START_S
        while starting:
            connected, late = _connected_names(client), time.monotonic() > deadline
            for entry, process in list(starting.items()):
                ended = process.poll() is not None
                if entry.name in connected:
                    results.append(StartResult(entry))
                elif ended or late:
                    process.kill()
                    cause = "" if ended else f"not connected after {_START_S:g} s; "
                    results.append(
                        StartResult(entry, cause + last_line(logs / f"{entry.name}.log"))
                    )
                else:
                    continue
                del starting[entry]
                report(results[-1])
            time.sleep(0.2)
    return results


def _connected_names(client: Client) -> set[str]:
    return {worker.name for worker in connected_workers(client)}


@contextlib.contextmanager
def _scheduler(port: int, logs: Path) -> Iterator[tuple[Client, Certificates]]:
    """Yield a client of this machine's scheduler, and the certificates of the fleet.

    Start the scheduler if it does not run.
    """
    address, log = scheduler_address(port), logs / "scheduler.log"
    with contextlib.ExitStack() as stack:
        if pems := certificates.load(port):
            with contextlib.suppress(NoSchedulerError):
                yield stack.enter_context(connect(address, timeout_s=2)), pems
                return
        pems = certificates.make_certificates()
        certificates.save(pems, port)
        options = ("--no-dashboard", "--host", scheduler_address(port))
        assert pems.scheduler
        command = _dask(_SCHEDULER, options, pems.authority, pems.scheduler, package=worker.PACKAGE)
        process = _spawn(*command, log)
        deadline = time.monotonic() + _START_S
        while True:
            try:
                client = stack.enter_context(connect(address, timeout_s=2))
                break
            except LenetEdgeError:
                if process.poll() is None and time.monotonic() < deadline:
                    continue
                process.kill()
                certificates.remove(port)
                raise LenetEdgeError(f"the scheduler does not start: {last_line(log)}") from None
        yield client, pems


def _dask(
    module: str,
    arguments: Sequence[str],
    authority: str,
    certificate: str,
    python: str = sys.executable,
    package: Path | None = None,
) -> tuple[list[str], bytes]:
    """Return the command that runs a program of Dask, and its standard input."""
    source = _PROGRAM.read_bytes()
    settings = {
        "module": module,
        "arguments": arguments,
        "authority": authority,
        "certificate": certificate,
        "package": package and str(package),
    }
    command = python_program(f"exec(sys.stdin.buffer.read({len(source)}).decode())", python=python)
    return command, source + json.dumps(settings).encode() + b"\n"


def _start_worker(
    entry: Entry, port: int, pems: Certificates, log: Path
) -> subprocess.Popen[bytes]:
    """Start the ssh that runs a worker on a board and opens both tunnels."""
    worker_port = port + 1 + entry.number
    arguments = (
        scheduler_address(port), "--name", entry.name, "--nthreads", "1", "--no-nanny",
        "--resources", f"{RESOURCE}=1", "--host", HOST, "--worker-port", str(worker_port),
        "--no-dashboard", "--death-timeout", "30",
    )  # fmt: skip
    program, content = _dask(_WORKER, arguments, pems.authority, pems.board, entry.python)
    options = [part for option in _SSH for part in ("-o", option)]
    command = [
        "ssh", "-T", *options,
        "-R", f"{HOST}:{port}:{HOST}:{port}", "-L", f"{HOST}:{worker_port}:{HOST}:{worker_port}",
        "--", entry.ssh, f"exec {shlex.join(program)}",
    ]  # fmt: skip
    return _spawn(command, content, log)


def _spawn(command: Sequence[str], content: bytes, log: Path) -> subprocess.Popen[bytes]:
    """Start a process that continues after this one ends; `content` is its standard input."""
    try:
        with create_log(log) as file:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=file, stderr=file, start_new_session=True
            )
    except FileNotFoundError:
        raise LenetEdgeError(
            "ssh is not installed; install it with: apt install openssh-client"
        ) from None
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (_MAX_LOG_BYTES, _MAX_LOG_BYTES))
    assert process.stdin
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
        pipe.write(content)
    return process


def last_line(log: Path) -> str:
    """Return the last line of a log, and the path of the log."""
    with log.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
        text = file.read(_TAIL_BYTES).decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = make_printable(lines[-1])[:200] if lines else "it printed nothing"
    return f"{line} ({log})"


def down(port: int) -> int:
    """Stop the scheduler and its workers, which ends ssh; return the number of workers."""
    with connect(scheduler_address(port)) as client:
        workers = len(client.scheduler_info()["workers"])
        client.shutdown()
    certificates.remove(port)
    return workers
