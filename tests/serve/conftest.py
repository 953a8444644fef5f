"""A real server in its own process, and a simple HTTP client."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

EXPORTED = Path(__file__).parents[2] / "exported"
FILES = ("lenet_int8.tflite", "lenet_float32.onnx")
PNG = {"Content-Type": "image/png"}


@dataclass
class Response:
    """A response of the server."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """A running `lenet-edge serve`."""

    process: subprocess.Popen[str]
    host: str
    port: int
    token: str | None
    printed: list[str] = field(default_factory=list)

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Response:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Response(response.status, dict(response.getheaders()), response.read())

    def predict(self, image: Path | bytes, **headers: str) -> Response:
        body = image if isinstance(image, bytes) else image.read_bytes()
        return self.request("POST", "/predict", body, {**PNG, **headers})

    def try_to_predict(self, image: Path) -> int:
        """Return the status of a prediction, or 0 if the connection was closed."""
        try:
            return self.predict(image).status
        except (ConnectionError, http.client.HTTPException):
            return 0

    def worker_pid(self, name: str = "models") -> int:
        """Return the process id of a worker, "models" or "decoder"."""
        return self.worker_pids()[name]

    def worker_pids(self) -> dict[str, int]:
        """Return the process ids of the workers by name; the decoder starts with an image."""
        names = {}
        for pid in self.child_pids():
            with contextlib.suppress(OSError):  # it has ended
                names["decoder" if _is_decoder(pid) else "models"] = pid
        return names

    def child_pids(self) -> list[int]:
        """Return the process ids of the children."""
        pids: list[int] = []
        for task in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):  # the thread has ended
                pids += map(int, task.read_text().split())
        return pids

    def memory_kb(self, pid: int) -> int:
        return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0])


def _is_decoder(pid: int) -> bool:
    """Tell the worker that decodes images from the one of the models, which writes samples."""
    libraries = Path(f"/proc/{pid}/maps").read_text()
    return "/PIL/" in libraries and "/ai_edge_litert/" not in libraries


@contextlib.contextmanager
def serving(
    *arguments: str | Path, host: str = "127.0.0.1", limits: Sequence[str] = ()
) -> Iterator[Server]:
    """Start a server on a free port, and stop it with SIGTERM as systemd does.

    Args:
        arguments: further arguments of the command.
        host: the address to listen on.
        limits: options of `prlimit` for the server.
    """
    limited = ["prlimit", *limits] if limits else []
    serve = [sys.executable, "-m", "lenet_edge", "serve", "--port", "0", "--host", host]
    process = subprocess.Popen(
        [*limited, *serve, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, cwd=EXPORTED.parent,
    )  # fmt: skip
    assert process.stdout
    printed: list[str] = []
    try:
        for line in process.stdout:
            printed.append(line)
            if match := re.search(r"at http://.*:(\d+)/(?:\?token=(\S+))?", line):
                server = Server(process, "127.0.0.1", int(match[1]), match[2], printed)
                break
        else:
            raise AssertionError(printed)
        yield server
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGTERM)
        process.wait(60)
        printed += process.stdout.readlines()
        process.stdout.close()


@pytest.fixture(scope="package")
def server() -> Iterator[Server]:
    """Yield a server that several tests share; none of them changes its state."""
    with serving(*(EXPORTED / name for name in FILES)) as running:
        yield running
    assert running.process.returncode == 0, running.printed
    assert "Traceback" not in "".join(running.printed)
