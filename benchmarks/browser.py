"""The network as WebAssembly against LiteRT.js and ONNX Runtime Web: python -m benchmarks.browser

Batch 1, one thread, in headless Chromium. Blocks of calls in turn, in one page, and that in six
browsers. npm brings the two packages into a temporary folder, at the versions named here; needs
npm, chromium, chromedriver, clang and wasm-ld. Kept in
benchmarks/results/<machine>/<time>-<commit>-browser.json.
"""

from __future__ import annotations

import functools
import http.server
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.native import CHECKPOINT
from benchmarks.record import ROOT, keep
from lenet_edge.artifacts.reference import Reference
from lenet_edge.bench.interleave import NUM_PROCESSES
from lenet_edge.data import mnist
from lenet_edge.data.dataset import to_input
from lenet_edge.errors import LenetEdgeError
from tests import browser

PACKAGES = ("@litertjs/core@2.5.3", "onnxruntime-web@1.30.0")
OURS = ("lenet_float32.wasm", "lenet_dynamic.wasm")
# Their batch is fixed, as both runtimes like it; int8 weights or QDQ, with floats in and out.
OTHERS = (
    "lenet_float32_b1.tflite",
    "lenet_dynamic_b1.tflite",
    "lenet_float32_b1.onnx",
    "lenet_int8_b1.onnx",
)
FILES = (*OURS, *OTHERS)
NUM_IMAGES = 64  # the first of the test set, in turn
WARMUP_ROUNDS, ROUNDS = 100, 400
BAR = 0.2
PAGE = Path(__file__).with_name("browser.html")
Runs = dict[str, list[npt.NDArray[np.float64]]]


def main() -> None:
    if reason := browser.missing():
        raise SystemExit(reason)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes = make_site(folder)
        reference = np.array([])
        for path in folder.glob("reference-*.npz"):
            reference = Reference.load(path).logits[:NUM_IMAGES]
        runs: Runs = {file: [] for file in FILES}
        with serving(folder) as address:
            for number in range(NUM_PROCESSES):
                print(f"Browser {number + 1} of {NUM_PROCESSES}", file=sys.stderr)
                version, found = measure(address)
                for file, one in found.items():
                    check(file, np.array(one["logits"]), reference)
                    runs[file].append(np.array(one["seconds"]))
    result = {
        "packages": PACKAGES,
        "browser": version,
        "size_bytes": sizes,
        "files": {file: row(runs, file) for file in FILES},
        "bar": judge(runs),
    }
    path = keep("browser", result)
    show(result)
    print(f"Kept in {path.relative_to(ROOT)}")


def make_site(folder: Path) -> dict[str, int]:
    """Put all that the page asks for into a folder; return the bytes of the model files."""
    from lenet_edge.export.exporter import Options, export

    print(f"Installing {' and '.join(PACKAGES)} ...", file=sys.stderr)
    command = ("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix")
    subprocess.run([*command, folder, *PACKAGES], check=True, stdout=subprocess.DEVNULL)
    training, test = mnist.load("train"), mnist.load("test")
    made = export(CHECKPOINT, folder, training, test, ("wasm",), ("float32", "dynamic"))
    precisions = ("float32", "dynamic", "int8")
    made += export(CHECKPOINT, folder, training, test, precisions=precisions,
                   options=Options(batch_size=1))  # fmt: skip
    shutil.copy(PAGE, folder / "index.html")
    shutil.copy(ROOT / "lenet_edge" / "serve" / "page" / "wasm.js", folder)
    return {one.name: one.size_bytes for one in made if one.name in FILES}


class _Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {  # noqa: RUF012
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def end_headers(self) -> None:
        # An isolated page gets a clock with steps of 5 microseconds instead of 100.
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    handler = functools.partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def measure(address: str) -> tuple[str, dict[str, Any]]:
    """Return the browser, and each file's answers and seconds of a call, block by block."""
    images = to_input(mnist.load("test").images[:NUM_IMAGES]).reshape(NUM_IMAGES, -1).tolist()
    with browser.start() as started:
        driver = started.driver
        driver.set_script_timeout(300)
        started.open(address)
        found = driver.execute_async_script(
            "const done = arguments[4];"
            "measure(...[...arguments].slice(0, 4)).then(done, (e) => done(`${e}\\n${e.stack}`))",
            list(FILES), images, WARMUP_ROUNDS, ROUNDS,
        )  # fmt: skip
        if isinstance(found, str):
            raise LenetEdgeError(f"the page failed: {found}; {started.console()}")
        assert found["isolated"]
        about = driver.capabilities
        return f"{about['browserName']} {about['browserVersion']}", found["files"]


def check(file: str, logits: npt.NDArray[Any], reference: npt.NDArray[Any]) -> None:
    """Say so where a contender is not right, for then its speed is worth nothing."""
    off = float(np.abs(logits - reference).max())
    same = bool((logits.argmax(axis=1) == reference.argmax(axis=1)).all())
    if not same or off > (1e-3 if "float32" in file else 2):
        raise LenetEdgeError(f"{file} answers wrong in the browser, by up to {off:.3g}")


def ratio(runs: Runs, of: str, to: str) -> dict[str, float]:
    """Return the median ratio of neighbouring blocks, and its range over the browsers."""
    each = [float(np.median(a / b)) for a, b in zip(runs[of], runs[to], strict=True)]
    return {"ratio": float(np.median(each)), "low": min(each), "high": max(each)}


def p50_s(runs: Runs, file: str) -> float:
    return float(np.median([np.median(one) for one in runs[file]]))


def row(runs: Runs, file: str) -> dict[str, float]:
    return {"p50_s": p50_s(runs, file), **ratio(runs, file, OURS[0])}


def judge(runs: Runs) -> dict[str, Any]:
    # By ratios: a busy machine may disturb the median of one file, but hardly neighbouring blocks.
    ours, other = (
        min(side, key=lambda one: ratio(runs, one, OURS[0])["ratio"]) for side in (OURS, OTHERS)
    )
    found = ratio(runs, ours, other)
    return {"of": ours, "to": other, "bar": BAR, **found, "met": found["ratio"] <= BAR}


def show(result: dict[str, Any]) -> None:
    print(f"{result['browser']}: microseconds a call at batch 1, ratio to {OURS[0]}")
    for file, one in result["files"].items():
        print(
            f"  {file:26} {one['p50_s'] * 1e6:7.1f}  {one['ratio']:.2f}"
            f" [{one['low']:.2f}, {one['high']:.2f}]  {result['size_bytes'][file]:,} bytes"
        )
    bar = result["bar"]
    print(
        f"{bar['of']} / {bar['to']}: {bar['ratio']:.3f} [{bar['low']:.3f}, {bar['high']:.3f}] <="
        f" {bar['bar']}: {'met' if bar['met'] else 'NOT MET'}"
    )


if __name__ == "__main__":
    main()
