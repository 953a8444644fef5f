"""Tests of .wasm files in a real browser: same logits as the C code, shown on the page."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lenet_edge.data.dataset import Dataset, to_input
from tests.browser import DESKTOP, Browser
from tests.data.draw import HANDS
from tests.export.test_native import call_batch, compile_variant
from tests.needs import BUILD_WASM, require
from tests.serve.conftest import EXPORTED, Server, serving

pytest.importorskip("selenium")
from selenium.webdriver.common.by import By

from tests.serve.test_page import draw, only_own_requests, texts, wait_for

PRECISIONS = ("float32", "dynamic")
# Runs the module of the page on images, which are float32 values in base64.
RUN = """
const [address, images, done] = arguments;
(async () => {
const bytes = Uint8Array.from(atob(images), (char) => char.charCodeAt(0));
const { openNetwork } = await import("/wasm.js");
const network = await openNetwork(address);
const pixels = new Float32Array(bytes.buffer), size = network.image.length, logits = [];
for (let start = 0; start < pixels.length; start += size) {
  network.image.set(pixels.subarray(start, start + size));
  network.run();
  logits.push(...network.logits);
}
done(logits);
})().catch((error) => done(String(error)));
"""


@pytest.fixture(scope="module")
def sources(exports: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the network as C and as WebAssembly into a folder."""
    from lenet_edge.data import mnist
    from lenet_edge.export.exporter import export

    require(*BUILD_WASM)
    folder = tmp_path_factory.mktemp("wasm")
    training, test = mnist.load("train"), mnist.load("test")
    export(exports / "lenet.keras", folder, training, test, ("native", "wasm"), PRECISIONS)
    return folder


@pytest.fixture(scope="module")
def server(sources: Path) -> Iterator[Server]:
    files = (sources / f"lenet_{precision}.wasm" for precision in PRECISIONS)
    with serving(*files, EXPORTED / "lenet_int8.tflite") as running:
        yield running
    assert running.process.returncode == 0, running.printed


@pytest.mark.parametrize("number", range(len(PRECISIONS)), ids=PRECISIONS)
def test_logits_equal_those_of_c(
    chromium: Browser,
    server: Server,
    sources: Path,
    test_part: Dataset,
    number: int,
    tmp_path: Path,
) -> None:
    """Bit for bit: the C code has the same four lanes and rounds each product."""
    images = to_input(test_part.images[:1000])
    chromium.open(f"http://127.0.0.1:{server.port}/")
    logits = chromium.driver.execute_async_script(
        RUN,
        f"/models/{number}.wasm",
        base64.b64encode(images.tobytes()).decode(),
    )
    actual = np.array(logits, np.float32).reshape(1000, 10)
    source = sources / f"lenet_native_{PRECISIONS[number]}.c"
    expected = call_batch(compile_variant(source, "clang", "baseline", tmp_path), images)
    np.testing.assert_array_equal(actual, expected)


def test_page_shows_browser_and_server_models(chromium: Browser, server: Server) -> None:
    chromium.console(), chromium.requests()
    chromium.open(f"http://127.0.0.1:{server.port}/", DESKTOP)
    wait_for(chromium, ["–"] * 3)
    draw(chromium, HANDS["upright"][5], "mouse")
    wait_for(chromium, ["5"] * 3)
    places = texts(chromium, By.CLASS_NAME, "about")
    assert places == ["litert-xnnpack, on the server", *["in your browser"] * 2]
    times = texts(chromium, By.CLASS_NAME, "time")
    assert all("µs · " in text or "ms · " in text for text in times)
    assert texts(chromium, By.CLASS_NAME, "confidence")
    chromium.driver.find_element(By.ID, "clear").click()
    wait_for(chromium, ["–"] * 3)
    assert chromium.console() == []
    assert only_own_requests(chromium, server)


def test_page_with_only_a_browser_model(chromium: Browser, sources: Path) -> None:
    with serving(sources / "lenet_float32.wasm") as alone:
        assert "Serving 1 models" in alone.printed[-1]
        chromium.open(f"http://127.0.0.1:{alone.port}/")
        draw(chromium, HANDS["upright"][3], "mouse")
        wait_for(chromium, ["3"])
    assert chromium.console() == []


def test_browser_without_simd_is_reported(chromium: Browser, server: Server) -> None:
    """A browser without SIMD refuses to compile the file."""
    script = chromium.driver.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument",
        {"source": "WebAssembly.instantiateStreaming = async () => {"
         " throw new WebAssembly.CompileError('no SIMD') }"},
    )  # fmt: skip
    try:
        chromium.open(f"http://127.0.0.1:{server.port}/")
    finally:
        chromium.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
    draw(chromium, HANDS["upright"][5], "mouse")
    wait_for(chromium, ["5", "–", "–"])
    times = texts(chromium, By.CLASS_NAME, "time")
    assert times[1:] == ["This browser cannot run the model: no SIMD"] * 2


def test_wasm_files_have_the_access_rules_of_the_page(server: Server, sources: Path) -> None:
    models = server.request("GET", "/models").json["in_browser"]
    names = [f"lenet_{precision}.wasm" for precision in PRECISIONS]
    assert [model["file"] for model in models] == names
    for model in models:
        response = server.request("GET", f"/{model['address']}")
        assert response.headers["Content-Type"] == "application/wasm"
        assert response.body == (sources / model["file"]).read_bytes()
    for path in ("/models/2.wasm", "/models/x.wasm", "/models/00000000000.wasm"):
        assert server.request("GET", path).status == 404
    foreign = server.request("GET", "/models/0.wasm", headers={"Origin": "http://evil.example"})
    assert foreign.status == 403
