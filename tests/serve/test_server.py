"""Tests of the server with valid and invalid requests; it must keep running after each."""

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
from tests.serve.conftest import EXPORTED, FILES, PNG, Response, Server, serving

SEVEN = FOLDER / "7-hasty-crayon.jpg"


@pytest.fixture(autouse=True)
def _keeps_running(server: Server) -> Iterator[None]:
    yield
    assert labels(server.predict(SEVEN)) == ["7"] * len(FILES)


def labels(response: Response) -> list[str]:
    return [prediction["label"] for prediction in response.json["answers"]]


def test_prediction_of_every_file(server: Server) -> None:
    response = server.predict(SEVEN)
    assert response.status == 200
    predictions = response.json["answers"]
    assert [prediction["file"] for prediction in predictions] == list(FILES)
    for prediction in predictions:
        assert prediction["label"] == "7"
        assert prediction["confidence"] == prediction["probabilities"]["7"] > 0.5
        assert sum(prediction["probabilities"].values()) == pytest.approx(1)
        assert 0 < prediction["inference_s"] < 10
    assert np.shape(response.json["seen"]) == (28, 28, 1)
    models = server.request("GET", "/models").json["models"]
    assert [(model["file"], model["target"]) for model in models] == [
        ("lenet_int8.tflite", "litert-xnnpack"), ("lenet_float32.onnx", "onnxruntime-cpu"),
    ]  # fmt: skip


def test_pixels_are_used_unchanged(server: Server) -> None:
    test = mnist.load("test")
    headers = {"Content-Type": "application/json; charset=utf-8"}
    for index in range(5):
        pixels = {"pixels": test.images[index, ..., 0].tolist()}
        response = server.request("POST", "/predict", json.dumps(pixels), headers)
        assert response.status == 200
        assert labels(response)[0] == str(test.labels[index])
        assert response.json["seen"] == test.images[index].tolist()


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/style.css",
        "/page.js",
        "/link.js",
        "/wasm.js",
        "/icon.svg",
        "/models",
        "/samples",
        "/samples/9.png",
        "/nowhere",
        "/predict",
    ],
)
def test_every_response_has_security_headers(server: Server, path: str) -> None:
    headers = server.request("GET", path).headers
    # Compiling WebAssembly is as safe as running a script from this server.
    assert headers["Content-Security-Policy"].replace("'wasm-unsafe-eval'", "").count("unsafe") == 0
    for part in ("default-src 'none'", "frame-ancestors 'none'", "script-src 'self'"):
        assert part in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "tornado" not in str(headers).lower()
    kinds = {"/": "text/html", "/style.css": "text/css", "/page.js": "text/javascript",
             "/link.js": "text/javascript", "/wasm.js": "text/javascript",
             "/icon.svg": "image/svg+xml", "/samples/9.png": "image/png"}  # fmt: skip
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
        ("GET", "/models/0.wasm", 404),  # no .wasm file is served
        ("GET", "/models/-1.wasm", 404),
        ("GET", "/samples/10.png", 404),
        ("GET", "/samples/x.png", 404),
        ("POST", "/", 405),
        ("POST", "/nowhere", 404),
        ("GET", "/predict", 405),
        ("PUT", "/predict", 405),
        ("TRACE", "/", 405),
    ],
)
def test_other_addresses_and_methods_are_refused(
    server: Server, method: str, path: str, status: int
) -> None:
    response = server.request(method, path)
    assert response.status == status
    assert set(response.json) == {"error"}


def test_a_request_chooses_models(server: Server) -> None:
    for query, count in (("", 2), ("?models=1", 1), ("?models=1,0,1", 2), ("?models=", 0)):
        response = server.request("POST", f"/predict{query}", SEVEN.read_bytes(), PNG)
        assert labels(response) == ["7"] * count
    for query in ("2", "-1", "x", "0,", "00", "0" * 5000):
        response = server.request("POST", f"/predict?models={query}", SEVEN.read_bytes(), PNG)
        assert response.status == 400
        assert "names no models; send places in the list" in response.json["error"]


def json_of_ones(*shape: int) -> str:
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
    (JSON, b"[" * 1_600, 400, "the JSON is not"),
    (JSON, b"[" * 60_000, 400, "the JSON has too many values"),
    (JSON, b"\xff\xfe", 400, "the JSON is not"),
    (JSON, b'{"pixels": "seven"}', 400, "the JSON is not"),
    (JSON, b'{"pixels": [[1], [1, 2]]}', 400, "the JSON is not"),
    (JSON, b'{"pixels": ' + b"9" * 5000 + b"}", 400, "the JSON is not"),
    (JSON, json_of_ones(28, 27).encode(), 400, "shape (28, 27)"),
    (JSON, json_of_ones(28, 28).replace("1.0", "256", 1).encode(), 400, "outside of 0 to 255"),
    (JSON, json_of_ones(28, 28).replace("1.0", "NaN", 1).encode(), 400, "outside of 0 to 255"),
]


@pytest.mark.parametrize(
    ("kind", "body", "status", "message"), BAD_BODIES, ids=range(len(BAD_BODIES))
)
def test_invalid_bodies_are_refused(
    server: Server, kind: str, body: bytes, status: int, message: str
) -> None:
    response = server.request("POST", "/predict", body, {"Content-Type": kind} if kind else {})
    assert response.status == status
    assert message in response.json["error"]
    assert "\n" not in response.json["error"]


def test_large_body_is_refused_and_not_stored(server: Server) -> None:
    before = server.memory_kb(server.process.pid)
    response = server.predict(os.urandom(50_000_000))
    assert response.status == 413
    assert response.json["error"] == "the limit is 16 MiB; send a smaller image"
    chunks = (b"x" * 1_000_000 for _ in range(50))  # chunked encoding, no length
    assert server.request("POST", "/predict", chunks, PNG).status == 413
    no_type = server.request("POST", "/predict", os.urandom(50_000_000), {})
    assert no_type.status == 415
    assert server.memory_kb(server.process.pid) - before < 60_000


def raw(server: Server, text: bytes, wait_s: float = 30) -> bytes:
    """Send bytes, and return the reply up to the end of the connection."""
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
def test_malformed_requests_are_refused(server: Server, text: bytes) -> None:
    try:
        received = raw(server, text)
    except ConnectionResetError:
        return
    assert received[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 431")


def test_pages_of_other_sites_are_refused(server: Server) -> None:
    own = f"http://127.0.0.1:{server.port}"
    assert server.predict(SEVEN, Origin=own).status == 200
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", own + ".evil.example"):
        response = server.predict(SEVEN, Origin=origin)
        assert response.status == 403
        assert response.json["error"] == "this server refuses requests from pages of other sites"
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        preflight = server.request("OPTIONS", "/predict", headers=headers)
        assert preflight.status == 403
        assert "access-control" not in str(preflight.headers).lower()


def test_foreign_host_names_are_refused(server: Server) -> None:
    for host in ("evil.example", f"evil.example:{server.port}", "localhost.evil.example", "", "["):
        for path in ("/", "/models", "/predict"):
            assert server.request("GET", path, headers={"Host": host}).status in (400, 403, 405)
        assert server.predict(SEVEN, Host=host).status in (400, 403)
    for host in ("localhost", "localhost:9", "127.0.0.1:80", "[::1]:8000"):
        assert server.request("GET", "/models", headers={"Host": host}).status == 200


def test_crash_of_a_model_does_not_stop_the_server(server: Server) -> None:
    pid = server.worker_pid()
    os.kill(pid, signal.SIGKILL)
    assert labels(server.predict(SEVEN)) == ["7"] * len(FILES)
    assert server.worker_pid() != pid


def test_requests_beyond_the_queue_get_503(server: Server) -> None:
    """The worker is paused so that the queue fills."""
    pid = server.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(40) as pool:
            requests = [pool.submit(server.predict, SEVEN) for _ in range(40)]
            deadline = time.monotonic() + 20
            while sum(request.done() for request in requests) < 40 - MAX_WAITING:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            early = [request.result() for request in requests if request.done()]
            os.kill(pid, signal.SIGCONT)
            statuses = [request.result().status for request in requests]
    finally:
        os.kill(pid, signal.SIGCONT)
    assert {response.status for response in early} == {503}
    assert all(response.headers["Retry-After"] == "1" for response in early)
    assert statuses.count(200) == MAX_WAITING
    assert statuses.count(503) == 40 - MAX_WAITING


def test_slow_clients_do_not_block_others(server: Server) -> None:
    """They send nothing, half a header or half a body, on more connections than allowed."""
    incomplete = [
        b"",
        b"GET / HTTP/1.1\r\nHost: local",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
        b"Content-Length: 1000\r\n\r\nhalf",
    ]
    slow = [socket.create_connection((server.host, server.port)) for _ in range(150)]
    try:
        for index, connection in enumerate(slow):
            connection.sendall(incomplete[index % 3])
        assert server.predict(SEVEN).status == 200
        slow += [socket.create_connection((server.host, server.port)) for _ in range(100)]
        deadline = time.monotonic() + 8  # slow clients are disconnected after 10 s
        while server.try_to_predict(SEVEN) != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        for connection in slow:
            connection.close()
    time.sleep(0.3)


@pytest.mark.slow
def test_slow_clients_are_disconnected(server: Server) -> None:
    for text in (
        b"GET / HTTP/1.1\r\nHost: local",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
        b"Content-Length: 1000\r\n\r\nhalf",
    ):
        assert raw(server, text, wait_s=40) == b""
    # The timeout covers the whole header, so single bytes do not extend it.
    started = time.monotonic()
    with socket.create_connection((server.host, server.port)) as connection:
        with pytest.raises(ConnectionError):
            for byte in b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200:
                connection.sendall(bytes([byte]))
                time.sleep(0.3)
    assert time.monotonic() - started < 40


def test_other_addresses_need_a_token() -> None:
    with serving(EXPORTED / FILES[0], host="0.0.0.0") as open_to_all:
        token = open_to_all.token
        assert token
        assert len(token) >= 32
        for path in ("/", "/page.js", "/models", "/?token=wrong", f"/?token={token}x"):
            response = open_to_all.request("GET", path)
            assert response.status == 403
            assert token not in str(response.headers) + response.body.decode()
        assert open_to_all.predict(SEVEN).status == 403
        assert open_to_all.predict(SEVEN, Authorization="Bearer wrong").status == 403
        assert open_to_all.predict(SEVEN, Authorization=f"Bearer {token}").status == 200
        redirect = open_to_all.request("GET", f"/?token={token}")
        assert (redirect.status, redirect.headers["Location"]) == (302, "/")
        cookie = redirect.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        own = {"Cookie": cookie.split(";")[0]}
        assert open_to_all.request("GET", "/", headers=own).status == 200
        assert open_to_all.predict(SEVEN, **own).status == 200
        assert open_to_all.predict(SEVEN, **own, Origin="http://evil.example").status == 403
        repeated = open_to_all.request("GET", "/?token=wrong", headers=own)
        assert repeated.headers["Set-Cookie"] == cookie
    assert open_to_all.process.returncode == 0


@pytest.mark.costly
def test_shutdown_completes_requests_in_flight() -> None:
    with serving(EXPORTED / FILES[0]) as stopping:
        pid = stopping.worker_pid()
        os.kill(pid, signal.SIGSTOP)
        with ThreadPoolExecutor(3) as pool:
            requests = [pool.submit(stopping.predict, SEVEN) for _ in range(3)]
            time.sleep(0.7)
            os.kill(stopping.process.pid, signal.SIGTERM)
            time.sleep(0.3)
            with pytest.raises(ConnectionRefusedError):
                stopping.request("GET", "/")
            os.kill(pid, signal.SIGCONT)
            assert [request.result().status for request in requests] == [200] * 3
        assert stopping.process.wait(20) == 0
    assert "Traceback" not in "".join(stopping.printed)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.costly
def test_port_in_use_is_reported(server: Server) -> None:
    command = [sys.executable, "-m", "lenet_edge", "serve", "--port", str(server.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=EXPORTED.parent)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]  # earlier lines name the files that are left out
    assert line.startswith(
        f"Error: cannot listen on 127.0.0.1, port {server.port}: Address already"
    )


@pytest.mark.costly
def test_foreign_listening_address_is_reported(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lenet_edge", "serve", str(EXPORTED / FILES[0]), "--host"]
    for host, message in (("192.0.2.7", "cannot listen on"), ("no.such.host.invalid", "--host")):
        done = subprocess.run([*command, host], capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert message in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
