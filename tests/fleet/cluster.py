"""A real Dask scheduler and real workers, each in a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lenet_edge.errors import LenetEdgeError
from lenet_edge.fleet.connection import connect, connected_boards
from tests.ports import free_port


def is_latency(line: str) -> bool:
    """Tell whether a line of text reports a measurement, such as "a: cell: 12.3 µs"."""
    return re.search(r": [\d.,]+ (µs|ms|s)$", line) is not None


class Cluster:
    """A scheduler on a free port of the loopback address, and boards, by their names."""

    def __init__(self, folder: Path, scheme: str = "tcp", options: Sequence[str] = ()) -> None:
        self._folder, self._options = folder, list(options)
        self._port = free_port()
        self.address = f"{scheme}://127.0.0.1:{self._port}"
        command = ["dask_scheduler", "--host", self.address, "--no-dashboard"]
        self.processes = {"scheduler": self._start("scheduler", command)}

    def _start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        # A log and not a pipe, because the test does not read it while it runs.
        with (self._folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{command[0]}", *command[1:],
                 *self._options],
                stdout=log, stderr=log, cwd=self._folder,
                env={**os.environ, **(environment or {})},
            )  # fmt: skip

    def add(self, *names: str, environment: Mapping[str, str] | None = None) -> None:
        for name in names:
            command = [
                "dask_worker", self.address, "--name", name, "--nthreads", "1", "--no-nanny",
                "--resources", "board=1", "--host", "127.0.0.1", "--no-dashboard",
                "--local-directory", str(self._folder / name),
            ]  # fmt: skip
            self.processes[name] = self._start(name, command, environment)

    def wait_for(self, count: int, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(LenetEdgeError), connect(self.address) as client:
                if len(connected_boards(client)) >= count:
                    return
            assert time.monotonic() < deadline, self.log("scheduler")
            time.sleep(0.2)

    def send(self, name: str, number: signal.Signals) -> None:
        self.processes[name].send_signal(number)

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text()

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()  # SIGKILL also ends a stopped process
            process.wait()


@contextlib.contextmanager
def cluster(folder: Path, *names: str) -> Iterator[Cluster]:
    with contextlib.closing(Cluster(folder)) as boards:
        boards.add(*names)
        boards.wait_for(len(names))
        yield boards
