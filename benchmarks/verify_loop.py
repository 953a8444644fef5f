"""The inner loop of verify against a bare loop: python -m benchmarks.verify_loop [FOLDER]

FOLDER holds the files of `lenet-edge export --dynamic`; exported/ if left out.

The bare loop calls the runtime's own API at its fastest batch size. One process runs both loops in
turn on the 10,000 test images, so that a slow minute of the machine affects both. The ratio is the
median over the rounds, with its 95 % confidence interval.
Writes benchmarks/results/<machine>/<time>-<commit>-verify-loop.json.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import ROOT, keep
from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.classifier_io import BATCH_SIZE, infer_all
from lenet_edge.data import mnist
from lenet_edge.data.dataset import to_input
from lenet_edge.results.stats import median_interval
from lenet_edge.runtimes import get_target, open_session

FILES = (
    ("lenet_float32.tflite", "litert-xnnpack"),
    ("lenet_dynamic.tflite", "litert-xnnpack"),
    ("lenet_float32.onnx", "onnxruntime-cpu"),
)
BATCH_SIZES = (50, 100, 200, 500, 1000)  # divisors of 10,000
ROUNDS = 31


def bare_tflite(path: Path, images: Any, batch_size: int) -> Callable[[], None]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    input_index = interpreter.get_input_details()[0]["index"]
    output_index = interpreter.get_output_details()[0]["index"]
    interpreter.resize_tensor_input(input_index, (batch_size, *images.shape[1:]))
    interpreter.allocate_tensors()

    def loop() -> None:
        for start in range(0, len(images), batch_size):
            interpreter.set_tensor(input_index, images[start : start + batch_size])
            interpreter.invoke()
            interpreter.get_tensor(output_index)

    return loop


def bare_onnx(path: Path, images: Any, batch_size: int) -> Callable[[], None]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def loop() -> None:
        for start in range(0, len(images), batch_size):
            session.run(None, {name: images[start : start + batch_size]})

    return loop


def seconds(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def main() -> None:
    folder = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "exported"
    images = to_input(mnist.load("test").images)
    rows = []
    for name, target in FILES:
        path = folder / name
        bare = bare_onnx if path.suffix == ".onnx" else bare_tflite
        loops = {size: bare(path, images, size) for size in BATCH_SIZES}
        best = min(loops, key=lambda size: min(seconds(loops[size]) for _ in range(5)))
        with closing(open_session(load_artifact(path), get_target(target))) as session:
            infer_all(session, images, BATCH_SIZE)
            pairs = [
                (seconds(lambda: infer_all(session, images, BATCH_SIZE)), seconds(loops[best]))
                for _ in range(ROUNDS)
            ]
        ratios = np.array([ours_s / bare_s for ours_s, bare_s in pairs])
        low, high = median_interval(ratios)
        ours_s, bare_s = np.median(pairs, axis=0).tolist()
        print(
            f"{name} on {target}: {np.median(ratios):.2f} times the bare loop"
            f" (95 %: {low:.2f} to {high:.2f}; {ours_s:.3f} s against {bare_s:.3f} s in batches of"
            f" {best})"
        )
        rows.append(
            {
                "file": name,
                "target": target,
                "ratio": float(np.median(ratios)),
                "low": low,
                "high": high,
                "verify_s": ours_s,
                "bare_s": bare_s,
                "bare_batch_size": best,
            }
        )
    print(f"Kept in {keep('verify-loop', {'loops': rows}).relative_to(ROOT)}")


if __name__ == "__main__":
    main()
