"""Tests of the limits of one request: its memory, its time, its connection and its descriptors."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import resource
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from lenet_edge import prediction
from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.data import mnist
from lenet_edge.errors import DataError, WorkerTimeoutError
from lenet_edge.serve import decoder
from lenet_edge.serve.connections import Listener
from lenet_edge.serve.models import _WorkerProcess
from lenet_edge.worker import Worker
from tests.data.draw import FOLDER
from tests.data.worst_images import png
from tests.reliability.memory import Peak
from tests.serve.conftest import EXPORTED, FILES, PNG, Server, serving

pytestmark = pytest.mark.costly

SEVEN = FOLDER / "7-hasty-crayon.jpg"
JSON = {"Content-Type": "application/json"}
PIXELS = json.dumps({"pixels": mnist.load("test").images[0, ..., 0].tolist()}).encode()
MODEL = EXPORTED / FILES[0]


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        (b"\xff" * 2**24, JSON, 413, "the limit for JSON is 64 KiB; send an image file"),
        (b'{"pixels": [' + b"[]," * 20_000 + b"0]}", JSON, 400, "the JSON has too many values"),
        (b"\xff" * 2**24, PNG, 400, "the image is not a PNG or JPEG image; convert it to PNG"),
        (b"\xff" * (2**24 + 1), PNG, 413, "the limit is 16 MiB; send a smaller image"),
    ],
    ids=["JSON", "values", "image", "large"],
)
def test_an_upload_is_not_multiplied(
    server: Server, body: bytes, headers: dict[str, str], status: int, message: str
) -> None:
    server.predict(SEVEN)
    peaks = [Peak(pid) for pid in (server.process.pid, *server.worker_pids().values())]
    response = server.request("POST", "/predict", body, headers)
    assert response.status == status
    assert message in response.json["error"]
    assert sum(peak.growth_bytes() for peak in peaks) < 24 * 2**20  # one copy, and the buffers
    assert sum(peak.kept_bytes() for peak in peaks) < 4 * 2**20
    assert not [name for name in descriptors(server) if "upload" in name]


def descriptors(server: Server) -> list[str]:
    """Return what the descriptors of a server lead to."""
    names = []
    for link in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            names.append(os.readlink(link))
    return names


def test_a_decoder_that_hangs_is_replaced_and_its_image_not_repeated(server: Server) -> None:
    """The decoder is stopped. A new one, which a repetition would start, would succeed."""
    server.predict(SEVEN)
    stopped = server.worker_pid("decoder")
    models = server.worker_pid("models")
    os.kill(stopped, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(server.predict, SEVEN)
        time.sleep(0.2)
        # Pixels in JSON do not wait for the decoder.
        assert server.request("POST", "/predict", PIXELS, JSON).status == 200
        assert not slow.done()
        response = slow.result()
    assert response.status == 500
    assert response.json["error"] == "serve.decoder:decode_upload did not finish within 3 s"
    assert server.predict(SEVEN).status == 200
    assert server.worker_pid("decoder") != stopped
    assert server.worker_pid("models") == models


def test_a_crash_of_the_decoder_is_repeated(server: Server) -> None:
    server.predict(SEVEN)
    os.kill(server.worker_pid("decoder"), signal.SIGKILL)
    assert server.predict(SEVEN).status == 200


def test_a_timeout_is_not_repeated_and_a_crash_is() -> None:
    call = prediction.load_pixels.bind(load_artifact(MODEL).to_json(), "x", PIXELS.decode(), "json")
    with closing(_WorkerProcess()) as process:
        process.run(call)
        assert process._worker is not None
        os.kill(process._worker.pid, signal.SIGKILL)
        process.run(call)
        os.kill(process._worker.pid, signal.SIGSTOP)
        with pytest.raises(WorkerTimeoutError, match=r"did not finish within 0\.5 s"):
            process.run(call, 0.5)
        process.run(call)


def test_an_image_has_limits_of_memory_and_time(tmp_path: Path) -> None:
    """The decoder itself outlives the images, and keeps none of their memory."""
    path = tmp_path / "large.png"
    path.write_bytes(png(8_000, 5_000, 1))
    call = functools.partial(decoder.decode_upload.bind, [load_artifact(MODEL).to_json()])
    with closing(Worker()) as process:
        process.run(decoder.start.bind())
        peak = Peak(process.pid)
        with pytest.raises(DataError, match="the image takes too much memory"):
            process.run(call(str(path), 60.0, 32 * 2**20))
        with pytest.raises(DataError, match=r"the image takes over 0\.01 s to decode here"):
            process.run(call(str(path), 0.01))
        assert len(process.run(call(str(SEVEN), 60.0))) == 1
        assert peak.growth_bytes() < 4 * 2**20
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        assert children == ""
        threads = list(Path(f"/proc/{process.pid}/task").iterdir())
        assert len(threads) == 1  # otherwise a fork may deadlock


@pytest.mark.parametrize("path", ["/", "/page.js", "/icon.svg", "/models", "/predict", "/nowhere"])
def test_head_has_the_headers_of_get_and_no_body(server: Server, path: str) -> None:
    request = f"{{}} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    get, head = (exchange(server, request.format(m).encode()) for m in ("GET", "HEAD"))
    headers, body = get.split(b"\r\n\r\n", 1)
    assert body
    assert without_date(head) == without_date(headers + b"\r\n\r\n")


def without_date(response: bytes) -> list[bytes]:
    return [line for line in response.split(b"\r\n") if not line.startswith(b"Date:")]


def exchange(server: Server, text: bytes, half_close: bool = False, wait_s: float = 10) -> bytes:
    """Send bytes, close that side if wanted, and return the response up to its end."""
    with socket.create_connection((server.host, server.port), timeout=wait_s) as connection:
        connection.sendall(text)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
        return received


def post(body: bytes, length: int | None = None) -> bytes:
    """Return a POST request whose header may state another length."""
    return (
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n" % (len(body) if length is None else length)
    ) + body


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (post(PIXELS), b"200 OK"),
        (post(b"{}"), b"400 Bad Request"),
        (b"GET /models HTTP/1.1\r\nHost: localhost\r\n\r\n", b"200 OK"),
        (post(b"half", 1_000), b"400 Bad Request"),
        (post(b"", 1_000), b"400 Bad Request"),
        (b"POST /predict HTTP/1.1\r\nHost: loc", b"400 Bad Request"),
    ],
    ids=["POST", "bad JSON", "GET", "half a body", "no body", "half a header"],
)
def test_a_half_closed_connection_gets_its_response(
    server: Server, request_: bytes, status: bytes
) -> None:
    response = exchange(server, request_, half_close=True)
    head, _, body = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status)
    assert json.loads(body)


def test_a_half_closed_connection_does_not_keep_the_server_busy(server: Server) -> None:
    pid = server.worker_pid("models")
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(exchange, server, post(PIXELS), True)
        time.sleep(0.3)
        before = cpu_seconds(server.process.pid)
        time.sleep(1)
        used = cpu_seconds(server.process.pid) - before
        os.kill(pid, signal.SIGCONT)
        assert pending.result().startswith(b"HTTP/1.1 200")
    assert used < 0.3


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def idle_connections(server: Server, count: int) -> Iterator[None]:
    """Open connections that send nothing, half a header or half a body."""
    texts = (b"", b"GET / HTTP/1.1\r\nHost: loc", post(b"half", 1_000))
    with contextlib.ExitStack() as stack:
        for number in range(count):
            connection = socket.create_connection((server.host, server.port), timeout=10)
            stack.enter_context(connection)
            with contextlib.suppress(ConnectionError):
                connection.sendall(texts[number % 3])
        yield


def wait_for_prediction(server: Server) -> None:
    """Predict, and repeat while connections are refused."""
    deadline = time.monotonic() + 8  # idle connections end after 10 s
    while server.try_to_predict(SEVEN) != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_more_connections_than_descriptors_do_not_stop_the_server() -> None:
    with serving(MODEL, limits=["--nofile=64"]) as small:
        for _ in range(2):
            with idle_connections(small, 120):
                wait_for_prediction(small)
        # The server may not know yet that the clients are gone: it answers 503 with Retry-After.
        wait_for_prediction(small)
    assert small.process.returncode == 0
    assert len(small.printed) < 6, small.printed[:20]
    assert "connections are open; further connections are refused" in "".join(small.printed)


def test_an_upload_without_room_is_refused() -> None:
    with serving(MODEL, limits=["--fsize=100000"]) as small:
        response = small.predict(b"\xff" * 200_000)
        assert response.status == 503
        assert response.json["error"] == "no room for the upload (File too large)"
        assert small.predict(SEVEN).status == 200
    assert "Traceback" not in "".join(small.printed)


def test_a_listener_without_descriptors_closes_new_connections() -> None:
    reasons: list[str] = []
    with closing(Listener(socket.create_server(("127.0.0.1", 0)))) as listener:
        listener.on_refusal = reasons.append
        client = socket.create_connection(listener.getsockname())
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            with pytest.raises(BlockingIOError):
                listener.accept()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert reasons == ["Too many open files"]
        assert client.recv(1) == b""
        client.close()
        with socket.create_connection(listener.getsockname()), listener.accept()[0]:
            pass
