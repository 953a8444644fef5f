"""Load test of `serve`: ``python -m tests.reliability.crowd [--requests N]``

steady     16 clients with keep-alive connections send N requests in all: every prediction must be
           right, and the memory of the server and its worker may not grow
overload   64 clients send requests without a pause for some seconds: refused requests get a 503 at
           once
end        SIGTERM while 16 clients send requests: accepted requests are answered, exit status 0
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from lenet_edge.data import mnist
from tests.serve.conftest import EXPORTED, FILES, Server, serving

REQUESTS = 10_000
CLIENTS, MANY = 16, 64
MAX_GROWTH_BYTES = 8 * 2**20
MAX_REFUSAL_S = 1.0  # of the median time to a 503
_OVERLOAD_S = 10.0
_HEADERS = {"Content-Type": "application/json"}
_IMAGES = 200


@dataclass
class Log:
    """Times in seconds, and failures, of the clients in one part of the test."""

    answered_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def line(self, name: str) -> str:
        return (
            f"{name:9}{len(self.answered_s):8,} answered, p50 {_ms(self.answered_s, 50)}, p99"
            f" {_ms(self.answered_s, 99)}; {len(self.refused_s):,} times 503, p50"
            f" {_ms(self.refused_s, 50)}, p99 {_ms(self.refused_s, 99)}"
        )


def _ms(seconds: list[float], percent: float) -> str:
    return f"{np.percentile(seconds, percent) * 1e3:.1f} ms" if seconds else "–"


class Crowd:
    """Clients of one server that check each prediction."""

    def __init__(self, server: Server) -> None:
        self._server = server
        images = mnist.load("test").images[:_IMAGES, ..., 0]
        self._bodies = [json.dumps({"pixels": image.tolist()}) for image in images]
        self._expected: list[list[str]] = []
        for body in self._bodies:
            response = server.request("POST", "/predict", body, _HEADERS)
            self._expected.append([model["label"] for model in response.json["answers"]])

    def send(self, count: int, clients: int, pause_s: float = 0.01) -> Log:
        """Get `count` predictions. A refused client waits `pause_s` and repeats the request."""
        share = [count // clients] * clients
        return self._each(clients, lambda log, n: self._until(log, n, share[n], pause_s))

    def overload(self, seconds: float, clients: int) -> Log:
        """Send requests without a pause for some seconds."""
        end = time.monotonic() + seconds

        def client(log: Log, first: int) -> None:
            connection = self._connect()
            number = first
            while time.monotonic() < end:
                self._once(log, connection, number := number + 1)

        return self._each(clients, client)

    def send_until_shutdown(self, clients: int, started: threading.Event) -> Log:
        """Send requests until the server refuses connections."""

        def client(log: Log, first: int) -> None:
            number = first
            try:
                connection = self._connect()
                while True:
                    self._once(log, connection, number := number + 1)
                    started.set()
            except ConnectionRefusedError:
                return

        return self._each(clients, client)

    def _each(self, clients: int, client: Callable[[Log, int], None]) -> Log:
        log = Log()

        def guarded(number: int) -> None:
            try:
                client(log, number)
            except Exception as error:
                log.failures.append(f"{type(error).__name__}: {error}")

        threads = [threading.Thread(target=guarded, args=(n,)) for n in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return log

    def _until(self, log: Log, first: int, count: int, pause_s: float) -> None:
        connection, done = self._connect(), 0
        while done < count:
            if self._once(log, connection, first * 100 + done):
                done += 1
            else:
                time.sleep(pause_s)
        connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._server.host, self._server.port, timeout=60)

    def _once(self, log: Log, connection: http.client.HTTPConnection, number: int) -> bool:
        """Send one request, and return whether it was accepted."""
        image = number % len(self._bodies)
        started = time.perf_counter()
        connection.request("POST", "/predict", self._bodies[image], _HEADERS)
        reply = connection.getresponse()
        content = reply.read()
        seconds = time.perf_counter() - started
        if reply.status == 503:
            log.refused_s.append(seconds)
            return False
        log.answered_s.append(seconds)
        if reply.status != 200:
            log.failures.append(f"status {reply.status}: {content[:100]!r}")
        else:
            labels = [model["label"] for model in json.loads(content)["answers"]]
            if labels != self._expected[image]:
                log.failures.append(f"image {image}: {labels}, not {self._expected[image]}")
        return True


def growth(server: Server, work: Callable[[], Log]) -> tuple[Log, dict[str, int]]:
    """Run `work`, and return by how many bytes the server and its worker have grown."""
    pids = {"server": server.process.pid, "worker": server.worker_pid()}
    before = {name: server.memory_kb(pid) for name, pid in pids.items()}
    log = work()
    if server.worker_pid() != pids["worker"]:
        log.failures.append("the worker died and was replaced")
    after = {name: server.memory_kb(pid) for name, pid in pids.items()}
    return log, {name: 1024 * (after[name] - before[name]) for name in pids}


def end(server: Server, crowd: Crowd) -> tuple[Log, float]:
    """Send SIGTERM while clients send requests; return their log and the seconds until the end."""
    started, log = threading.Event(), Log()

    def clients() -> None:
        nonlocal log
        log = crowd.send_until_shutdown(CLIENTS, started)

    thread = threading.Thread(target=clients)
    thread.start()
    started.wait(60)
    time.sleep(0.5)
    os.kill(server.process.pid, signal.SIGTERM)
    signalled = time.monotonic()
    status = server.process.wait(60)
    seconds = time.monotonic() - signalled
    thread.join()
    if status:
        log.failures.append(f"exit status {status}")
    return log, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", 1)[1])
    parser.add_argument("--requests", type=int, default=REQUESTS, help="(%(default)s)")
    options = parser.parse_args()
    with serving(*(EXPORTED / name for name in FILES)) as server:
        crowd = Crowd(server)
        crowd.send(500, CLIENTS)  # warm up: allocate the memory that is allocated once
        steady, grown = growth(server, lambda: crowd.send(options.requests, CLIENTS))
        print(steady.line("steady"), flush=True)
        print(f"{'':9}", ", ".join(f"{name} {by / 1000:+,.0f} kB" for name, by in grown.items()))
        overload, more = growth(server, lambda: crowd.overload(_OVERLOAD_S, MANY))
        print(overload.line("overload"))
        print(f"{'':9}", ", ".join(f"{name} {by / 1000:+,.0f} kB" for name, by in more.items()))
        last, seconds = end(server, crowd)
        print(last.line("end"), f"\n{'':9} ended {seconds:.2f} s after SIGTERM")
    failures = [*steady.failures, *overload.failures, *last.failures]
    failures += [f"{n} grew by {by:,} bytes" for n, by in grown.items() if by > MAX_GROWTH_BYTES]
    failures += ["a traceback"] if "Traceback" in "".join(server.printed) else []
    print(*failures[:20], sep="\n")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
