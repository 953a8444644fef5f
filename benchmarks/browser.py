"""Our WebAssembly against LiteRT.js and ONNX Runtime Web: python -m benchmarks.browser

Headless Chromium measures batch 1 on one thread. One page times blocks of calls, file by file in
turn. Six browsers repeat that. npm installs the two packages, at fixed versions, into a temporary
folder. Needs npm, chromium, chromedriver, clang and wasm-ld. Writes
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
OURS = ("lenet_float32.wasm", "lenet_dynamic.wasm", "lenet_int8.wasm")
# Files of a fixed batch, which both runtimes prefer, with int8 weights or QDQ and float inputs and
# outputs.
OTHERS = (
    "lenet_float32_b1.tflite",
    "lenet_dynamic_b1.tflite",
    "lenet_float32_b1.onnx",
    "lenet_int8_b1.onnx",
)
FILES = (*OURS, *OTHERS)
NUM_IMAGES = 64  # the first images of the test set
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
                version, measured = measure(address)
                for file, result in measured.items():
                    check_logits(file, np.array(result["logits"]), reference)
                    runs[file].append(np.array(result["seconds"]))
    results = {
        "packages": PACKAGES,
        "browser": version,
        "size_bytes": sizes,
        "files": {file: row(runs, file) for file in FILES},
        "bar": judge(runs),
    }
    path = keep("browser", results)
    show(results)
    print(f"Kept in {path.relative_to(ROOT)}")


def make_site(folder: Path) -> dict[str, int]:
    """Write the page and the model files into a folder; return the sizes of the models in bytes."""
    from lenet_edge.export.exporter import Options, export

    print(f"Installing {' and '.join(PACKAGES)} ...", file=sys.stderr)
    command = ("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix")
    subprocess.run([*command, folder, *PACKAGES], check=True, stdout=subprocess.DEVNULL)
    training, test = mnist.load("train"), mnist.load("test")
    artifacts = export(
        CHECKPOINT, folder, training, test, ("wasm",), ("float32", "dynamic", "int8")
    )
    precisions = ("float32", "dynamic", "int8")
    options = Options(batch_size=1)
    artifacts += export(CHECKPOINT, folder, training, test, precisions=precisions, options=options)
    shutil.copy(PAGE, folder / "index.html")
    shutil.copy(ROOT / "lenet_edge" / "serve" / "page" / "wasm.js", folder)
    return {file.name: file.size_bytes for file in artifacts if file.name in FILES}


class _Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {  # noqa: RUF012
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def end_headers(self) -> None:
        # The clock of an isolated page has steps of 5 microseconds instead of 100.
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
    """Return the name of the browser, and the logits and the seconds of a call of each file."""
    images = to_input(mnist.load("test").images[:NUM_IMAGES]).reshape(NUM_IMAGES, -1).tolist()
    with browser.start() as page:
        driver = page.driver
        driver.set_script_timeout(300)
        page.open(address)
        result = driver.execute_async_script(
            "const done = arguments[4];"
            "measure(...[...arguments].slice(0, 4)).then(done, (e) => done(`${e}\\n${e.stack}`))",
            list(FILES), images, WARMUP_ROUNDS, ROUNDS,
        )  # fmt: skip
        if isinstance(result, str):
            raise LenetEdgeError(f"the page failed: {result}; {page.console()}")
        assert result["isolated"]
        about = driver.capabilities
        return f"{about['browserName']} {about['browserVersion']}", result["files"]


def check_logits(file: str, logits: npt.NDArray[Any], reference: npt.NDArray[Any]) -> None:
    """Raise an error if a file predicts wrong: then its speed has no value."""
    error = float(np.abs(logits - reference).max())
    same = bool((logits.argmax(axis=1) == reference.argmax(axis=1)).all())
    if not same or error > (1e-3 if "float32" in file else 2):
        raise LenetEdgeError(f"{file} is wrong in the browser: logits are off by up to {error:.3g}")


def ratio(runs: Runs, of: str, to: str) -> dict[str, float]:
    """Return the median ratio of neighbouring blocks, and its range over the browsers."""
    medians = [float(np.median(a / b)) for a, b in zip(runs[of], runs[to], strict=True)]
    return {"ratio": float(np.median(medians)), "low": min(medians), "high": max(medians)}


def p50_s(runs: Runs, file: str) -> float:
    return float(np.median([np.median(seconds) for seconds in runs[file]]))


def row(runs: Runs, file: str) -> dict[str, float]:
    return {"p50_s": p50_s(runs, file), **ratio(runs, file, OURS[0])}


def judge(runs: Runs) -> dict[str, Any]:
    # Ratios of neighbouring blocks: a busy machine may disturb the median of one file.
    ours, other = (
        min(side, key=lambda file: ratio(runs, file, OURS[0])["ratio"]) for side in (OURS, OTHERS)
    )
    result = ratio(runs, ours, other)
    return {"of": ours, "to": other, "bar": BAR, **result, "met": result["ratio"] <= BAR}


def show(result: dict[str, Any]) -> None:
    print(f"{result['browser']}: microseconds a call at batch 1, ratio to {OURS[0]}")
    for file, row in result["files"].items():
        print(
            f"  {file:26} {row['p50_s'] * 1e6:7.1f}  {row['ratio']:.2f}"
            f" [{row['low']:.2f}, {row['high']:.2f}]  {result['size_bytes'][file]:,} bytes"
        )
    bar = result["bar"]
    print(
        f"{bar['of']} / {bar['to']}: {bar['ratio']:.3f} [{bar['low']:.3f}, {bar['high']:.3f}] <="
        f" {bar['bar']}: {'met' if bar['met'] else 'NOT MET'}"
    )


if __name__ == "__main__":
    main()
