"""A .wasm file in a real browser: it answers as the C does; the page shows it with the others."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lenet_edge.data.dataset import Dataset, to_input
from tests.browser import DESKTOP, Browser
from tests.data.draw import HANDS
from tests.export.test_native import called, compiled, need
from tests.serve.conftest import EXPORTED, Server, serving

pytest.importorskip("selenium")
from selenium.webdriver.common.by import By

from tests.serve.test_page import draw, only_own_requests, wait_for

PRECISIONS = ("float32", "dynamic")
# The page's own module, given images one by one, of float32 in base64.
RUN = """
const [address, images, done] = arguments;
(async () => {
const bytes = Uint8Array.from(atob(images), (one) => one.charCodeAt(0));
const { openNetwork } = await import("/wasm.js");
const network = await openNetwork(address);
const given = new Float32Array(bytes.buffer), size = network.image.length, said = [];
for (let at = 0; at < given.length; at += size) {
  network.image.set(given.subarray(at, at + size));
  network.run();
  said.push(...network.logits);
}
done(said);
})().catch((error) => done(String(error)));
"""


@pytest.fixture(scope="module")
def sources(exports: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the network as C and as WebAssembly."""
    from lenet_edge.data import mnist
    from lenet_edge.export.exporter import export

    need("clang", "wasm-ld")
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
def test_it_answers_as_the_c_does(
    chromium: Browser,
    server: Server,
    sources: Path,
    test_part: Dataset,
    number: int,
    tmp_path: Path,
) -> None:
    """To the bit, where the C has the same four lanes and rounds each product."""
    images = to_input(test_part.images[:1000])
    chromium.open(f"http://127.0.0.1:{server.port}/")
    said = chromium.driver.execute_async_script(
        RUN,
        f"/models/{number}.wasm",
        base64.b64encode(images.tobytes()).decode(),
    )
    found = np.array(said, np.float32).reshape(1000, 10)
    source = sources / f"lenet_native_{PRECISIONS[number]}.c"
    expected = called(compiled(source, "clang", "baseline", tmp_path), images)
    np.testing.assert_array_equal(found, expected)


def test_the_page_shows_it_with_the_others(chromium: Browser, server: Server) -> None:
    chromium.console(), chromium.requests()
    chromium.open(f"http://127.0.0.1:{server.port}/", DESKTOP)
    wait_for(chromium, ["–"] * 3)
    draw(chromium, HANDS["upright"][5], "mouse")
    wait_for(chromium, ["5"] * 3)
    where = [one.text for one in chromium.driver.find_elements(By.CLASS_NAME, "about")]
    assert where == ["litert-xnnpack, on the server", *["in your browser"] * 2]
    times = [one.text for one in chromium.driver.find_elements(By.CLASS_NAME, "time")]
    assert all("µs · " in one or "ms · " in one for one in times)
    assert [one.text for one in chromium.driver.find_elements(By.CLASS_NAME, "sure")]
    chromium.driver.find_element(By.ID, "clear").click()
    wait_for(chromium, ["–"] * 3)
    assert chromium.console() == []
    assert only_own_requests(chromium, server)


def test_a_page_of_nothing_else(chromium: Browser, sources: Path) -> None:
    with serving(sources / "lenet_float32.wasm") as alone:
        assert "Serving 1 models" in alone.printed[-1]
        chromium.open(f"http://127.0.0.1:{alone.port}/")
        draw(chromium, HANDS["upright"][3], "mouse")
        wait_for(chromium, ["3"])
    assert chromium.console() == []


def test_a_browser_that_cannot_says_so(chromium: Browser, server: Server) -> None:
    """As one without SIMD does, which refuses to compile the file."""
    added = chromium.driver.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument",
        {"source": "WebAssembly.instantiateStreaming = async () => {"
         " throw new WebAssembly.CompileError('no SIMD') }"},
    )  # fmt: skip
    try:
        chromium.open(f"http://127.0.0.1:{server.port}/")
    finally:
        chromium.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    draw(chromium, HANDS["upright"][5], "mouse")
    wait_for(chromium, ["5", "–", "–"])
    times = [one.text for one in chromium.driver.find_elements(By.CLASS_NAME, "time")]
    assert times[1:] == ["This browser cannot run it: no SIMD"] * 2


def test_its_bytes_are_given_to_whoever_may_see_the_page(server: Server, sources: Path) -> None:
    told = server.ask("GET", "/models").json["in_browser"]
    assert [one["file"] for one in told] == [f"lenet_{one}.wasm" for one in PRECISIONS]
    for one in told:
        answer = server.ask("GET", f"/{one['address']}")
        assert answer.headers["Content-Type"] == "application/wasm"
        assert answer.body == (sources / one["file"]).read_bytes()
    for path in ("/models/2.wasm", "/models/x.wasm", "/models/00000000000.wasm"):
        assert server.ask("GET", path).status == 404
    elsewhere = server.ask("GET", "/models/0.wasm", headers={"Origin": "http://evil.example"})
    assert elsewhere.status == 403
