"""Cost of the worst requests to `serve`: ``python -m tests.reliability.worst_request [NAME...]``

Each request is made by construction to cost much memory or time. While the server handles it, two
honest clients send a drawing: as a PNG file, as the page does, and as pixels in JSON. The table has
for each request the status, the largest memory of the server and its workers beyond their memory at
rest, the memory kept afterwards, and the longest time of an honest request. The memory of the body
is included.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from lenet_edge.data import mnist
from tests.data.draw import FOLDER
from tests.data.worst_images import WORST
from tests.serve.conftest import EXPORTED, FILES, PNG, Server, serving

MAX_COST_BYTES = 140_000_000
MAX_DELAY_S = 2.0
_SAMPLE_S = 0.005
_PAUSE_S = 0.02
_JSON = {"Content-Type": "application/json"}
_MIB = 2**20

JSON_BODIES: dict[str, Callable[[], bytes]] = {
    "JSON, 16 MiB of 0xFF": lambda: b"\xff" * (16 * _MIB),
    "JSON, 16 MiB of lists": lambda: b'{"pixels": [' + b"[]," * (5 * _MIB) + b"0]}",
    "JSON, 64 KiB of lists": lambda: b'{"pixels": [' + b"[]," * 21_000 + b"0]}",
    "JSON, 1,600 nested lists": lambda: b'{"pixels": ' + b"[" * 1_600 + b"]" * 1_600 + b"}",
    "JSON, 64 KiB of digits": lambda: b'{"pixels": ' + b"9" * 65_000 + b"}",
    "JSON, 64 KiB of numbers": lambda: b'{"pixels": [' + b"1e300,99999999999," * 800 + b"0]}",
}


@dataclass
class Cost:
    """The cost of one request, and the honest clients beside it."""

    name: str
    body_bytes: int
    status: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0
    kept_bytes: int = 0
    delays_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def line(self) -> str:
        return (
            f"{self.name:42}{self.body_bytes / 1e6:7.2f} MB {self.status:5}{self.seconds:7.2f} s"
            f"{self.peak_bytes / 1e6:8.0f} MB{self.kept_bytes / 1e6:6.0f} MB"
            f"{max(self.delays_s, default=0):8.2f} s"
        )


class Measured:
    """A server, its honest clients, and the memory of all of its processes."""

    def __init__(self, server: Server) -> None:
        self._server = server
        drawing = FOLDER / "7-hasty-crayon.jpg"
        pixels = mnist.load("test").images[0, ..., 0].tolist()
        self._honest = [
            (drawing.read_bytes(), PNG),
            (json.dumps({"pixels": pixels}).encode(), _JSON),
        ]
        for body, headers in self._honest * 3:  # start the decoder; allocate what stays allocated
            assert server.request("POST", "/predict", body, headers).status == 200

    def measure(self, name: str, body: bytes, headers: dict[str, str]) -> Cost:
        """Send one request, and return its cost."""
        cost = Cost(name, len(body))
        before = self._memory_bytes()
        with self._clients(cost), self._sampler(cost):
            time.sleep(0.1)
            started = time.perf_counter()
            cost.status = self._server.request("POST", "/predict", body, headers).status
            cost.seconds = time.perf_counter() - started
            time.sleep(0.2)
        time.sleep(0.3)
        cost.peak_bytes -= before
        cost.kept_bytes = self._memory_bytes() - before
        return cost

    @contextmanager
    def _clients(self, cost: Cost) -> Iterator[None]:
        end = threading.Event()

        def client(body: bytes, headers: dict[str, str]) -> None:
            while not end.is_set():
                started = time.perf_counter()
                try:
                    status = self._server.request("POST", "/predict", body, headers).status
                except (OSError, HTTPException) as error:
                    cost.failures.append(f"{cost.name}: an honest client got {error!r}")
                    continue
                cost.delays_s.append(time.perf_counter() - started)
                if status != 200:
                    cost.failures.append(f"{cost.name}: an honest client got {status}")
                time.sleep(_PAUSE_S)

        with _threads(end, [functools.partial(client, *honest) for honest in self._honest]):
            yield

    @contextmanager
    def _sampler(self, cost: Cost) -> Iterator[None]:
        end = threading.Event()

        def sample() -> None:
            while not end.is_set():
                cost.peak_bytes = max(cost.peak_bytes, self._memory_bytes())
                time.sleep(_SAMPLE_S)

        with _threads(end, [sample]):
            yield

    def _memory_bytes(self) -> int:
        """Return the memory of the server, its workers and the uploads."""
        pid = self._server.process.pid
        total = sum(map(_resident_bytes, _tree(pid)))
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if "upload" in os.readlink(link):
                    total += link.stat().st_size
        return total


def _tree(pid: int) -> Iterator[int]:
    """Yield a process and its descendants."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended
            for child in task.read_text().split():
                yield from _tree(int(child))


def _resident_bytes(pid: int) -> int:
    """Return the memory of a process, with its share of the pages that others use too."""
    with suppress(OSError, IndexError):  # it has ended
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return int(rollup.split("Pss:")[1].split()[0]) * 1024
    return 0


@contextmanager
def _threads(end: threading.Event, functions: list[Callable[[], None]]) -> Iterator[None]:
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join()


def measure(names: list[str]) -> Iterator[Cost]:
    """Measure the requests whose name contains one of some texts; all of them without a text."""
    with serving(*(EXPORTED / name for name in FILES)) as server:
        measured = Measured(server)
        for name, pid in (("server", server.process.pid), *server.worker_pids().items()):
            print(f"{name} at rest: {_resident_bytes(pid) / 1e6:.0f} MB")
        for bodies, headers in ((JSON_BODIES, _JSON), (WORST, PNG)):
            for name, make in bodies.items():
                if not names or any(text in name for text in names):
                    yield measured.measure(name, make(), headers)
    if server.process.returncode or "Traceback" in "".join(server.printed):
        yield Cost("the server", 0, failures=["".join(server.printed)])


def faults(cost: Cost) -> list[str]:
    """Return the limits that a request exceeded, without those of time."""
    faults = list(cost.failures)
    if cost.peak_bytes > MAX_COST_BYTES:
        faults.append(f"{cost.name} took {cost.peak_bytes / 1e6:.0f} MB")
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", 1)[1])
    parser.add_argument("names", nargs="*", help="part of the name of a request; all by default")
    print("name, size, status, time, largest and kept memory, longest time of an honest request")
    failures = []
    costs = []
    for cost in measure(parser.parse_args().names):
        print(cost.line(), flush=True)
        costs.append(cost)
        failures += faults(cost)
        delay = max(cost.delays_s, default=0)
        if delay > MAX_DELAY_S:
            failures.append(f"{cost.name} delayed a client by {delay:.2f} s")
    print(
        f"at most {max(cost.peak_bytes for cost in costs) / 1e6:.0f} MB, and a delay of"
        f" {max(max(cost.delays_s, default=0) for cost in costs):.2f} s"
    )
    print(*failures, sep="\n")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
