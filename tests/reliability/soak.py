"""Long mixed load of `serve`: ``python -m tests.reliability.soak [--minutes N]``

drawings   clients send pixels and drawings, as programs and the page do: each prediction is checked
junk       damaged images, worst cases, wrong JSON and wrong headers: refused
slow       half a request, then silence or a half-closed connection
aborted    a connection that is reset during the upload or before the response
worker     the models or the decoder are stopped for seconds or killed, at random

No prediction may be wrong, no response may have another status than the expected ones, and the
memory and the descriptors of the server may not grow. The seed makes a run repeatable.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from lenet_edge.data import mnist
from tests.data.draw import FOLDER
from tests.data.worst_images import WORST
from tests.reliability.crowd import MAX_GROWTH_BYTES
from tests.reliability.worst_request import JSON_BODIES
from tests.serve.conftest import EXPORTED, FILES, PNG, Server, serving

MINUTES = 60.0
_MAX_GROWN_DESCRIPTORS = 4
_WARM_UP = 0.1  # of the time, before memory and descriptors are noted
_JSON = {"Content-Type": "application/json"}
# Of the worst requests, those that are made in little time.
_WORST = ("16 MiB", "PNG, 1 x", "EXIF", "texts", "2,000 scans", "50 MP of 1 bit", "noise")
# The pause of each kind of client between two requests, in seconds.
_PAUSES_S = {"pixels": 0.05, "drawing": 0.1, "junk": 0.3, "slow": 0.5, "aborted": 0.3}
_STATUSES = {
    # 400: the decoder was stopped for too long. 500: a worker was killed twice.
    "pixels": (200, 500, 503), "drawing": (200, 400, 500, 503),
    "junk": (400, 403, 413, 415, 500, 503),
}  # fmt: skip


class Soak:
    """A server under mixed load, and the count of its responses."""

    def __init__(self, server: Server, seed: int) -> None:
        self._server = server
        self._random = random.Random(seed)
        self._end = threading.Event()
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        images = mnist.load("test").images[:50, ..., 0]
        self._honest = {
            "pixels": [(json.dumps({"pixels": i.tolist()}).encode(), _JSON) for i in images],
            "drawing": [(p.read_bytes(), PNG) for p in sorted(FOLDER.glob("*.*g"))[::5]],
        }
        self._expected = {
            body: self._labels(server.request("POST", "/predict", body, headers).json)
            for requests in self._honest.values()
            for body, headers in requests
        }
        self._junk = [
            *((make(), _JSON) for make in JSON_BODIES.values()),
            *((make(), PNG) for name, make in WORST.items() if any(n in name for n in _WORST)),
            *((body[: len(body) // 2], PNG) for body, _ in self._honest["drawing"][:5]),
            (b"7", {}),
            (b"7", {**PNG, "Origin": "http://evil.example"}),
        ]

    @staticmethod
    def _labels(response: dict[str, object]) -> list[str]:
        answers: list[dict[str, str]] = response["answers"]  # type: ignore[assignment]
        # A worker that was stopped or killed twice gives an error instead of a label.
        return [answer.get("label", "") for answer in answers]

    def run(self, seconds: float) -> dict[str, int]:
        """Send requests for some time; return the growth of the server's memory and descriptors."""
        names = (*_PAUSES_S, "pixels", "drawing")
        threads = [
            threading.Thread(target=self._repeat, args=(name, self._random.getrandbits(32)))
            for name in names
        ]
        threads.append(threading.Thread(target=self._disturb, args=(self._random.getrandbits(32),)))
        for thread in threads:
            thread.start()
        try:
            self._end.wait(seconds * _WARM_UP)
            before = self._resources()
            self._end.wait(seconds * (1 - _WARM_UP))
        finally:
            self._end.set()
            for thread in threads:
                thread.join()
        self._settle()
        after = self._resources()
        return {name: after[name] - before[name] for name in before}

    def _resources(self) -> dict[str, int]:
        pid = self._server.process.pid
        return {
            "bytes": 1024 * self._server.memory_kb(pid),
            "descriptors": len(list(Path(f"/proc/{pid}/fd").iterdir())),
            "threads": len(list(Path(f"/proc/{pid}/task").iterdir())),
        }

    def _settle(self) -> None:
        """Wait until slow clients are disconnected and the server is right again."""
        deadline = time.monotonic() + 40
        for requests in self._honest.values():
            body, headers = requests[0]
            while (
                self._send("settled", body, headers) != 200 or self._resources()["descriptors"] > 30
            ):
                if time.monotonic() > deadline:
                    self.faults.append("the server did not settle within 40 s")
                    return
                time.sleep(0.5)

    def _repeat(self, name: str, seed: int) -> None:
        chance = random.Random(seed)
        acts: dict[str, Callable[[random.Random], None]] = {
            "junk": self._send_junk, "slow": self._send_half, "aborted": self._abort
        }  # fmt: skip
        while not self._end.is_set():
            try:
                if name in self._honest:
                    self._send(name, *chance.choice(self._honest[name]))
                else:
                    acts[name](chance)
            except Exception as error:
                self.faults.append(f"{name}: {type(error).__name__}: {error}")
            self._end.wait(_PAUSES_S[name] * chance.uniform(0.5, 1.5))

    def _send(self, name: str, body: bytes, headers: dict[str, str]) -> int:
        try:
            response = self._server.request("POST", "/predict", body, headers)
        except (OSError, HTTPException) as error:
            self.faults.append(f"{name}: {type(error).__name__}: {error}")
            return 0
        self.counts[f"{name} {response.status}"] += 1
        if response.status not in _STATUSES.get(name, (200, 400, 500, 503)):
            self.faults.append(f"{name}: status {response.status}, {response.body[:100]!r}")
        if response.status == 200 and body in self._expected:
            pairs = zip(self._labels(response.json), self._expected[body], strict=True)
            for label, expected in pairs:
                self.counts[f"{name} without a label"] += not label
                if label not in ("", expected):
                    self.faults.append(f"{name}: {label}, not {expected}")
        return response.status

    def _send_junk(self, chance: random.Random) -> None:
        self._send("junk", *chance.choice(self._junk))

    def _send_half(self, chance: random.Random) -> None:
        body, _ = chance.choice(self._honest["drawing"])
        whole = _head(len(body)) + body
        with self._connect() as connection:
            connection.sendall(whole[: chance.randrange(len(whole))])
            if chance.random() < 0.5:
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1_000)
                self.counts["slow half-closed"] += 1
            else:
                self._end.wait(chance.uniform(0, 3))
                self.counts["slow silent"] += 1

    def _abort(self, chance: random.Random) -> None:
        body, _ = chance.choice(self._junk if chance.random() < 0.5 else self._honest["drawing"])
        with self._connect() as connection:
            # Closing sends a reset.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall((_head(len(body)) + body)[: chance.randrange(len(body) + 200)])
            self._end.wait(chance.uniform(0, 0.1))
        self.counts["aborted"] += 1

    def _connect(self) -> socket.socket:
        return socket.create_connection((self._server.host, self._server.port), timeout=60)

    def _disturb(self, seed: int) -> None:
        """Stop or kill a worker every few seconds."""
        chance = random.Random(seed)
        while not self._end.wait(chance.uniform(1, 6)):
            pid = self._server.worker_pids().get(chance.choice(("models", "decoder")))
            if pid is None:
                continue
            try:
                if chance.random() < 0.5:
                    os.kill(pid, signal.SIGKILL)
                    self.counts["worker killed"] += 1
                else:
                    os.kill(pid, signal.SIGSTOP)
                    self.counts["worker stopped"] += 1
                    self._end.wait(chance.uniform(0.1, 3))
                    os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                continue


def _head(length: int) -> bytes:
    return (
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
        b"Content-Length: %d\r\n\r\n" % length
    )


def soak(minutes: float, seed: int) -> tuple[Soak, list[str]]:
    """Run the load on a new server; return it with the faults."""
    with serving(*(EXPORTED / name for name in FILES)) as server:
        load = Soak(server, seed)
        growth = load.run(60 * minutes)
    faults = load.faults
    if growth["bytes"] > MAX_GROWTH_BYTES:
        faults.append(f"the server grew by {growth['bytes']:,} bytes")
    if growth["descriptors"] > _MAX_GROWN_DESCRIPTORS:
        faults.append(f"the server has {growth['descriptors']} more descriptors")
    if server.process.returncode or "Traceback" in "".join(server.printed):
        faults.append("".join(server.printed)[:2_000])
    load.counts.update({f"growth, {name}": count for name, count in growth.items()})
    return load, faults


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", 1)[1])
    parser.add_argument("--minutes", type=float, default=MINUTES, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    options = parser.parse_args()
    load, faults = soak(options.minutes, options.seed)
    for name, count in sorted(load.counts.items()):
        print(f"{name:26}{count:12,}")
    print(*faults[:20], sep="\n")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
