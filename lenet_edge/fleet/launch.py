"""Start and stop of a fleet: a scheduler on this machine and a worker on each board, over ssh.

Every process listens on a loopback address only. Two ssh tunnels per board connect the worker to
the scheduler and the scheduler to the worker. No board opens a port to its network, and ssh
detects a board that loses its power.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_edge.errors import BoardError, LenetEdgeError
from lenet_edge.fleet.connection import RESOURCE, connect
from lenet_edge.fleet.inventory import Entry
from lenet_edge.support.files import create_log
from lenet_edge.support.python_command import python_module

if TYPE_CHECKING:
    from distributed import Client

HOST = "127.0.0.1"
DEFAULT_PORT = 8786
_START_S = 60.0
_SSH = (
    "BatchMode=yes", "ConnectTimeout=15", "ExitOnForwardFailure=yes",
    "ServerAliveInterval=5", "ServerAliveCountMax=3",
)  # fmt: skip
# Background work of Dask that would disturb measurements: a profiler that inspects the worker's
# threads 100 times a second, and a monitor that reads system figures twice a second.
_QUIET_DASK = {
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "60s",
}
_SCHEDULER = "distributed.cli.dask_scheduler"
_WORKER = "distributed.cli.dask_worker"


@dataclass(frozen=True)
class StartResult:
    """Result of starting a board: `reason` is the failure, or None if its worker has connected."""

    entry: Entry
    reason: str | None = None


def scheduler_address(port: int = DEFAULT_PORT) -> str:
    """Return the address of this machine's scheduler."""
    return f"tcp://{HOST}:{port}"


def up(
    entries: Sequence[Entry],
    port: int,
    logs: Path,
    report: Callable[[StartResult], None] = lambda result: None,
) -> list[StartResult]:
    """Start the scheduler and the workers that do not run yet, and leave them running.

    Args:
        entries: the boards.
        port: the scheduler's port; board number i uses port + 1 + i on both sides.
        logs: the folder for the output of the scheduler and the workers.
        report: called when a board has connected or failed.

    Raises:
        LenetEdgeError: the scheduler does not start.
    """
    logs.mkdir(parents=True, exist_ok=True)
    with _scheduler(port, logs) as client:
        connected = _connected_names(client)
        starting = {
            entry: _spawn(_ssh_command(entry, port), logs / f"{entry.name}.log")
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
    return {str(facts["name"]) for facts in client.scheduler_info()["workers"].values()}


@contextlib.contextmanager
def _scheduler(port: int, logs: Path) -> Iterator[Client]:
    """Yield a client of this machine's scheduler; start the scheduler if it does not run."""
    address = scheduler_address(port)
    with contextlib.ExitStack() as stack:
        try:
            client = stack.enter_context(connect(address, timeout_s=2))
        except BoardError:
            raise
        except LenetEdgeError:
            options = ("--no-dashboard", "--host", HOST, "--port", str(port))
            command = python_module(_SCHEDULER, *options)
            process = _spawn(command, logs / "scheduler.log")
            try:
                client = stack.enter_context(connect(address, timeout_s=_START_S))
            except LenetEdgeError:
                process.kill()
                raise LenetEdgeError(
                    f"the scheduler does not start: {last_line(logs / 'scheduler.log')}"
                ) from None
        yield client


def _ssh_command(entry: Entry, port: int) -> list[str]:
    """Return the command that runs a worker on a board and opens both tunnels."""
    worker_port = port + 1 + entry.number
    worker = [
        *python_module(_WORKER, scheduler_address(port), python=entry.python),
        "--name", entry.name, "--nthreads", "1", "--no-nanny", "--resources", f"{RESOURCE}=1",
        "--host", HOST, "--worker-port", str(worker_port), "--no-dashboard",
        "--death-timeout", "30",
    ]  # fmt: skip
    settings = [f"{name}={value}" for name, value in _QUIET_DASK.items()]
    options = [part for option in _SSH for part in ("-o", option)]
    return [
        "ssh", "-T", *options,
        "-R", f"{HOST}:{port}:{HOST}:{port}", "-L", f"{HOST}:{worker_port}:{HOST}:{worker_port}",
        "--", entry.ssh, f"exec env {shlex.join([*settings, *worker])}",
    ]  # fmt: skip


def _spawn(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a process that continues after this one ends."""
    try:
        with create_log(log) as file:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
    except FileNotFoundError:
        raise LenetEdgeError(
            "ssh is not installed; install it with: apt install openssh-client"
        ) from None


def last_line(log: Path) -> str:
    """Return the last line of a log, and the path of the log."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"{lines[-1][:200] if lines else 'it printed nothing'} ({log})"


def down(scheduler: str) -> int:
    """Stop the scheduler and its workers, which ends ssh; return the number of workers."""
    with connect(scheduler) as client:
        workers = len(client.scheduler_info()["workers"])
        client.shutdown()
        return workers
