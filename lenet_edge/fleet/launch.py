"""Start the scheduler here and a worker on each board, over the user's own OpenSSH.

Nothing listens but on loopback addresses: ssh carries both directions, the worker's way to the
scheduler and the scheduler's to the worker, so that the board needs no port of its own and a
board that is unplugged is noticed by ssh.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_edge.errors import BoardError, LenetEdgeError
from lenet_edge.fleet.connection import RESOURCE, connect
from lenet_edge.fleet.inventory import Entry

if TYPE_CHECKING:
    from distributed import Client

HOST = "127.0.0.1"
DEFAULT_PORT = 8786
_START_S = 60.0
_SSH = (
    "BatchMode=yes", "ConnectTimeout=15", "ExitOnForwardFailure=yes",
    "ServerAliveInterval=5", "ServerAliveCountMax=3",
)  # fmt: skip
# What Dask does beside its work would be seen in what is measured: a profiler that looks at the
# worker's threads 100 times a second, and a monitor that looks at the system twice.
_CALM = {
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "60s",
}
_WORKER = "distributed.cli.dask_worker"


@dataclass(frozen=True)
class Started:
    """What came of starting a board: `reason` is None where its worker has joined."""

    entry: Entry
    reason: str | None = None


def address(port: int = DEFAULT_PORT) -> str:
    """Return where the scheduler of this machine listens."""
    return f"tcp://{HOST}:{port}"


def up(
    entries: Sequence[Entry],
    port: int,
    logs: Path,
    report: Callable[[Started], None] = lambda started: None,
) -> list[Started]:
    """Start what does not run yet, and leave it running.

    Args:
        entries: the boards.
        port: of the scheduler; board number i has port + 1 + i, here and there.
        logs: the folder for what scheduler and workers print.
        report: called as each board has joined or failed.

    Raises:
        LenetEdgeError: the scheduler does not start.
    """
    logs.mkdir(parents=True, exist_ok=True)
    results = []
    with _scheduler(port, logs) as client:
        here = {str(one["name"]) for one in client.scheduler_info()["workers"].values()}
        waiting = {
            entry: _spawn(_ssh(entry, port), logs / f"{entry.name}.log")
            for entry in entries
            if entry.name not in here
        }
        results = [Started(entry) for entry in entries if entry not in waiting]
        deadline = time.monotonic() + _START_S
        while waiting:
            here = {str(one["name"]) for one in client.scheduler_info()["workers"].values()}
            late = time.monotonic() > deadline
            for entry, process in list(waiting.items()):
                if entry.name in here:
                    results.append(Started(entry))
                elif process.poll() is not None or late:
                    process.kill()
                    why = "" if process.poll() is not None else f"not there in {_START_S:g} s; "
                    results.append(Started(entry, why + explain(logs / f"{entry.name}.log")))
                else:
                    continue
                del waiting[entry]
                report(results[-1])
            time.sleep(0.2)
    return results


@contextlib.contextmanager
def _scheduler(port: int, logs: Path) -> Iterator[Client]:
    """Yield a client of the scheduler here, started if need be."""
    with contextlib.ExitStack() as stack:
        try:
            client = stack.enter_context(connect(address(port), timeout_s=2))
        except BoardError:
            raise
        except LenetEdgeError:
            command = [
                sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard",
                "--host", HOST, "--port", str(port),
            ]  # fmt: skip
            process = _spawn(command, logs / "scheduler.log")
            try:
                client = stack.enter_context(connect(address(port), timeout_s=_START_S))
            except LenetEdgeError:
                process.kill()
                raise LenetEdgeError(
                    f"the scheduler does not start: {explain(logs / 'scheduler.log')}"
                ) from None
        yield client


def _ssh(entry: Entry, port: int) -> list[str]:
    """Return the command that runs a worker on a board, and both ways to it."""
    worker_port = port + 1 + entry.number
    worker = [
        entry.python, "-m", _WORKER, address(port), "--name", entry.name, "--nthreads", "1",
        "--no-nanny", "--resources", f"{RESOURCE}=1", "--host", HOST,
        "--worker-port", str(worker_port), "--no-dashboard", "--death-timeout", "30",
    ]  # fmt: skip
    calm = [f"{name}={value}" for name, value in _CALM.items()]
    options = [part for option in _SSH for part in ("-o", option)]
    return [
        "ssh", "-T", *options,
        "-R", f"{HOST}:{port}:{HOST}:{port}", "-L", f"{HOST}:{worker_port}:{HOST}:{worker_port}",
        "--", entry.ssh, f"exec env {shlex.join([*calm, *worker])}",
    ]  # fmt: skip


def _spawn(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a process that outlives this one."""
    try:
        with log.open("wb") as file:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
    except FileNotFoundError:
        raise LenetEdgeError(
            "ssh is not installed; install it with: apt install openssh-client"
        ) from None


def explain(log: Path) -> str:
    """Return what a process printed last."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"{lines[-1][:200] if lines else 'it said nothing'} ({log})"


def down(scheduler: str) -> int:
    """Stop the scheduler and every worker, which ends their connections; return how many."""
    with connect(scheduler) as client:
        workers = len(client.scheduler_info()["workers"])
        client.shutdown()
        return workers
