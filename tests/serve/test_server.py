"""What the server answers, to good requests and to bad ones; it lives on through all of them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lenet_edge.data import mnist
from lenet_edge.serve.handlers import MAX_WAITING
from tests.data.draw import FOLDER
from tests.serve.conftest import EXPORTED, FILES, PNG, Server, serving

SEVEN = FOLDER / "7-hasty-crayon.jpg"


@pytest.fixture(autouse=True)
def _it_lives_on(server: Server) -> Iterator[None]:
    yield
    answer = server.predict(SEVEN)
    assert [one["label"] for one in answer.json["answers"]] == ["7"] * len(FILES)


def test_it_answers_for_every_file(server: Server) -> None:
    answer = server.predict(SEVEN)
    assert answer.status == 200
    assert [one["file"] for one in answer.json["answers"]] == list(FILES)
    for one in answer.json["answers"]:
        assert one["label"] == "7"
        assert one["confidence"] == one["probabilities"]["7"] > 0.5
        assert sum(one["probabilities"].values()) == pytest.approx(1)
        assert 0 < one["inference_s"] < 10
    assert np.shape(answer.json["seen"]) == (28, 28, 1)
    models = server.ask("GET", "/models").json["models"]
    assert [(one["file"], one["target"]) for one in models] == [
        ("lenet_int8.tflite", "litert-xnnpack"), ("lenet_float32.onnx", "onnxruntime-cpu"),
    ]  # fmt: skip


def test_pixels_are_taken_as_they_are(server: Server) -> None:
    test = mnist.load("test")
    for place in range(5):
        pixels = {"pixels": test.images[place, ..., 0].tolist()}
        answer = server.ask("POST", "/predict", json.dumps(pixels),
                            {"Content-Type": "application/json; charset=utf-8"})  # fmt: skip
        assert answer.status == 200
        assert answer.json["answers"][0]["label"] == str(test.labels[place])
        assert answer.json["seen"] == test.images[place].tolist()


@pytest.mark.parametrize(
    "path",
    ["/", "/style.css", "/page.js", "/wasm.js", "/icon.svg", "/models", "/nowhere", "/predict"],
)
def test_every_answer_has_the_headers(server: Server, path: str) -> None:
    headers = server.ask("GET", path).headers
    # To compile WebAssembly is no more than to run a script of one's own.
    assert headers["Content-Security-Policy"].replace("'wasm-unsafe-eval'", "").count("unsafe") == 0
    for part in ("default-src 'none'", "frame-ancestors 'none'", "script-src 'self'"):
        assert part in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "tornado" not in str(headers).lower()
    kinds = {"/": "text/html", "/style.css": "text/css", "/page.js": "text/javascript",
             "/wasm.js": "text/javascript", "/icon.svg": "image/svg+xml"}  # fmt: skip
    assert headers["Content-Type"].split(";")[0] == kinds.get(path, "application/json")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/../server.py", 404),
        ("GET", "/..%2f..%2fserver.py", 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404),
        ("GET", "/page.js%00.html", 404),
        ("GET", "/page/../../server.py", 404),
        ("GET", "//etc/passwd", 404),
        ("GET", "/server.py", 404),
        ("GET", "/models/0.wasm", 404),  # none was given to serve
        ("GET", "/models/-1.wasm", 404),
        ("POST", "/", 405),
        ("POST", "/nowhere", 404),
        ("GET", "/predict", 405),
        ("PUT", "/predict", 405),
        ("TRACE", "/", 405),
    ],
)
def test_there_is_nothing_else(server: Server, method: str, path: str, status: int) -> None:
    answer = server.ask(method, path)
    assert answer.status == status
    assert set(answer.json) == {"error"}


def ones(*shape: int) -> str:
    return json.dumps({"pixels": np.ones(shape).tolist()})


JSON, OCTETS = "application/json", "application/octet-stream"
BAD_BODIES = [
    ("image/png", b"", 400, "the image is empty"),
    ("image/png", b"Dear diary", 400, "not a PNG or JPEG"),
    (OCTETS, SEVEN.read_bytes()[:900], 400, "the image is damaged"),
    ("text/plain", b"7", 415, "the Content-Type is text/plain; send one of"),
    ("", b"7", 415, "the Content-Type is missing"),
    ("multipart/form-data; boundary=x", b"--x--", 415, "multipart/form-data"),
    (JSON, b"", 400, "the JSON is not"),
    (JSON, b"[" * 100_000, 400, "the JSON is not"),
    (JSON, b"\xff\xfe", 400, "the JSON is not"),
    (JSON, b'{"pixels": "seven"}', 400, "the JSON is not"),
    (JSON, b'{"pixels": [[1], [1, 2]]}', 400, "the JSON is not"),
    (JSON, b'{"pixels": ' + b"9" * 5000 + b"}", 400, "the JSON is not"),
    (JSON, ones(28, 27).encode(), 400, "shape (28, 27)"),
    (JSON, ones(28, 28).replace("1.0", "256", 1).encode(), 400, "outside of 0 to 255"),
    (JSON, ones(28, 28).replace("1.0", "NaN", 1).encode(), 400, "outside of 0 to 255"),
]


@pytest.mark.parametrize(("kind", "body", "status", "says"), BAD_BODIES, ids=range(len(BAD_BODIES)))
def test_bad_bodies(server: Server, kind: str, body: bytes, status: int, says: str) -> None:
    answer = server.ask("POST", "/predict", body, {"Content-Type": kind} if kind else {})
    assert answer.status == status
    assert says in answer.json["error"]
    assert "\n" not in answer.json["error"]


def test_fifty_megabytes_are_refused_and_not_kept(server: Server) -> None:
    before = server.memory_kb(server.process.pid)
    answer = server.predict(os.urandom(50_000_000))
    assert answer.status == 413
    assert answer.json["error"] == "the limit is 16 MiB; send a smaller image"
    pieces = (b"x" * 1_000_000 for _ in range(50))  # in chunks, without a length
    assert server.ask("POST", "/predict", pieces, PNG).status == 413
    no_type = server.ask("POST", "/predict", os.urandom(50_000_000), {})
    assert no_type.status == 415
    assert server.memory_kb(server.process.pid) - before < 60_000


def raw(server: Server, text: bytes, wait_s: float = 30) -> bytes:
    """Send bytes, and return what comes until the server closes the connection."""
    with socket.create_connection((server.host, server.port), timeout=wait_s) as connection:
        connection.sendall(text)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
    return received


@pytest.mark.parametrize(
    "text",
    [
        b"\0" * 100 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    ],
    ids=[
        "noise",
        "header",
        "length",
        "body of a file",
        "negative",
        "two lengths",
        "two hosts",
        "5,000 headers",
    ],
)
def test_what_is_no_request_is_cut_off(server: Server, text: bytes) -> None:
    try:
        received = raw(server, text)
    except ConnectionResetError:
        return
    assert received[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 431")


def test_pages_of_other_sites_are_kept_out(server: Server) -> None:
    own = f"http://127.0.0.1:{server.port}"
    assert server.predict(SEVEN, Origin=own).status == 200
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", own + ".evil.example"):
        answer = server.predict(SEVEN, Origin=origin)
        assert answer.status == 403
        assert answer.json["error"] == "pages of other sites may not ask this server"
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        allowed = server.ask("OPTIONS", "/predict", headers=asked)
        assert allowed.status == 403
        assert "access-control" not in str(allowed.headers).lower()


def test_a_name_that_was_pointed_here_is_kept_out(server: Server) -> None:
    for host in ("evil.example", f"evil.example:{server.port}", "localhost.evil.example", "", "["):
        for path in ("/", "/models", "/predict"):
            assert server.ask("GET", path, headers={"Host": host}).status in (400, 403, 405)
        assert server.predict(SEVEN, Host=host).status in (400, 403)
    for host in ("localhost", "localhost:9", "127.0.0.1:80", "[::1]:8000"):
        assert server.ask("GET", "/models", headers={"Host": host}).status == 200


def test_a_model_that_crashes_takes_nobody_along(server: Server) -> None:
    pid = server.worker_pid()
    os.kill(pid, signal.SIGKILL)
    answer = server.predict(SEVEN)
    assert [one["label"] for one in answer.json["answers"]] == ["7"] * len(FILES)
    assert server.worker_pid() != pid


def test_many_at_once_are_answered_or_told_to_come_again(server: Server) -> None:
    """The worker is stopped for a while, so that the queue fills."""
    pid = server.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(40) as pool:
            asked = [pool.submit(server.predict, SEVEN) for _ in range(40)]
            deadline = time.monotonic() + 20
            while sum(one.done() for one in asked) < 40 - MAX_WAITING:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            early = [one.result() for one in asked if one.done()]
            os.kill(pid, signal.SIGCONT)
            statuses = [one.result().status for one in asked]
    finally:
        os.kill(pid, signal.SIGCONT)
    assert {answer.status for answer in early} == {503}
    assert all(answer.headers["Retry-After"] == "1" for answer in early)
    assert statuses.count(200) == MAX_WAITING
    assert statuses.count(503) == 40 - MAX_WAITING


def test_slow_clients_hold_nobody_up(server: Server) -> None:
    """Connections that say nothing, half a header or half a body; more than there may be."""
    halves = [
        b"",
        b"GET / HTTP/1.1\r\nHost: local",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
        b"Content-Length: 1000\r\n\r\nhalf",
    ]
    slow = [socket.create_connection((server.host, server.port)) for _ in range(150)]
    try:
        for place, connection in enumerate(slow):
            connection.sendall(halves[place % 3])
        assert server.predict(SEVEN).status == 200
        more = [socket.create_connection((server.host, server.port)) for _ in range(100)]
        slow += more
        more[-1].settimeout(10)
        assert more[-1].recv(100).startswith(b"HTTP/1.1 503")
    finally:
        for connection in slow:
            connection.close()
    time.sleep(0.3)


@pytest.mark.slow
def test_slow_clients_are_cut_off(server: Server) -> None:
    for text in (
        b"GET / HTTP/1.1\r\nHost: local",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
        b"Content-Length: 1000\r\n\r\nhalf",
    ):
        assert raw(server, text, wait_s=40) == b""
    # One byte now and then is no life sign: the time is that of the whole.
    started = time.monotonic()
    with socket.create_connection((server.host, server.port)) as dripping:
        with pytest.raises(ConnectionError):
            for byte in b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200:
                dripping.sendall(bytes([byte]))
                time.sleep(0.3)
    assert time.monotonic() - started < 40


def test_beyond_the_loopback_a_token_is_demanded() -> None:
    with serving(EXPORTED / FILES[0], host="0.0.0.0") as open_to_all:
        token = open_to_all.token
        assert token
        assert len(token) >= 32
        for path in ("/", "/page.js", "/models", "/?token=wrong", f"/?token={token}x"):
            answer = open_to_all.ask("GET", path)
            assert answer.status == 403
            assert token not in str(answer.headers) + answer.body.decode()
        assert open_to_all.predict(SEVEN).status == 403
        assert open_to_all.predict(SEVEN, Authorization="Bearer wrong").status == 403
        assert open_to_all.predict(SEVEN, Authorization=f"Bearer {token}").status == 200
        entered = open_to_all.ask("GET", f"/?token={token}")
        assert (entered.status, entered.headers["Location"]) == (302, "/")
        cookie = entered.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        own = {"Cookie": cookie.split(";")[0]}
        assert open_to_all.ask("GET", "/", headers=own).status == 200
        assert open_to_all.predict(SEVEN, **own).status == 200
        assert open_to_all.predict(SEVEN, **own, Origin="http://evil.example").status == 403
        again = open_to_all.ask("GET", "/?token=wrong", headers=own)
        assert again.headers["Set-Cookie"] == cookie
    assert open_to_all.process.returncode == 0


def test_at_the_end_requests_in_flight_are_answered() -> None:
    with serving(EXPORTED / FILES[0]) as ending:
        pid = ending.worker_pid()
        os.kill(pid, signal.SIGSTOP)
        with ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(ending.predict, SEVEN) for _ in range(3)]
            time.sleep(0.7)
            os.kill(ending.process.pid, signal.SIGTERM)
            time.sleep(0.3)
            with pytest.raises(ConnectionRefusedError):
                ending.ask("GET", "/")
            os.kill(pid, signal.SIGCONT)
            assert [one.result().status for one in asked] == [200] * 3
        assert ending.process.wait(20) == 0
    assert "Traceback" not in "".join(ending.printed)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_port_is_taken(server: Server) -> None:
    command = [sys.executable, "-m", "lenet_edge", "serve", "--port", str(server.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=EXPORTED.parent)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]  # others say which files were left out
    assert line.startswith(
        f"Error: cannot listen on 127.0.0.1, port {server.port}: Address already"
    )


def test_a_host_that_is_not_ours(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lenet_edge", "serve", str(EXPORTED / FILES[0]), "--host"]
    for host, says in (("192.0.2.7", "cannot listen on"), ("no.such.host.invalid", "--host")):
        done = subprocess.run([*command, host], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert says in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
