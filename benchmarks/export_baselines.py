"""Our files against those of the stock exporters: python -m benchmarks.export_baselines.

The stock files come from `model.export` of Keras, the plain TFLiteConverter, plain tf2onnx, and
ONNX Runtime's quantization with its defaults. The calls are those of a user. TFLite: set_tensor,
invoke, get_tensor. ONNX: `run`, and a bound session for our files too. 18 processes, whose medians
lie 5 % apart, interleave the calls of all files. An untimed call precedes each timed call, so that
no file pays for the caches that another file filled. Writes
benchmarks/results/<machine>/<time>-<commit>-exports.json.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import ROOT, keep
from lenet_edge.bench.interleave import ratios
from lenet_edge.data import mnist
from lenet_edge.data.dataset import to_input

CHECKPOINT = ROOT / "exported" / "lenet.keras"
NUM_PROCESSES = 18
ROUNDS = 2000
WARMUP_ROUNDS = 100
NUM_CALIBRATION = 1000
Call = Callable[[Any], Any]

# The ratios of a group are to its first file, a stock file.
GROUPS = {
    "TFLite float32": ["stock/converter_float32.tflite", "stock/keras_litert.tflite",
                       "lenet_float32.tflite"],
    "TFLite float16": ["stock/converter_float16.tflite", "lenet_float16.tflite"],
    "TFLite dynamic": ["stock/converter_dynamic.tflite", "lenet_dynamic.tflite"],
    "TFLite int8": ["stock/converter_int8.tflite", "lenet_int8.tflite"],
    "fastest TFLite": ["stock/converter_float32.tflite", "lenet_dynamic.tflite",
                       "lenet_int8.tflite", "lenet_mixed.tflite"],
    "ONNX float32": ["stock/tf2onnx.onnx", "stock/keras.onnx", "lenet_float32.onnx",
                     "lenet_float32.onnx bound"],
    "ONNX int8": ["stock/ort_static.onnx", "stock/ort_dynamic.onnx", "lenet_int8.onnx",
                  "lenet_int8.onnx bound"],
}  # fmt: skip
# Group, file (None: the fastest of ours), and the largest ratio to the stock file.
BARS: list[tuple[str, str | None, float]] = [
    ("fastest TFLite", None, 0.62),
    ("ONNX float32", "lenet_float32.onnx", 0.85),
    ("ONNX float32", "lenet_float32.onnx bound", 0.65),
    ("TFLite float32", "lenet_float32.tflite", 1.0),
    ("TFLite float16", "lenet_float16.tflite", 1.0),
    ("TFLite dynamic", "lenet_dynamic.tflite", 1.0),
    ("TFLite int8", "lenet_int8.tflite", 1.0),
    ("ONNX int8", "lenet_int8.onnx", 1.0),
]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        notes = make_files(folder)
        files = sorted({file for group in GROUPS.values() for file in group})
        present = [file for file in files if path_of(folder, file).exists()]
        print("Accuracy ...", file=sys.stderr)
        facts = describe_files(folder, present)
        groups = {}
        for title, group in GROUPS.items():
            members = [file for file in group if file in present]
            print(f"Timing {title} ...", file=sys.stderr)
            groups[title] = time_group(folder, members)
    result = {"notes": notes, "files": facts, "groups": groups, "bars": check_bars(groups)}
    path = keep("exports", result)
    show(result)
    print(f"Kept in {path.relative_to(ROOT)}")


def path_of(folder: Path, file: str) -> Path:
    return folder / file.removesuffix(" bound")


def make_files(folder: Path) -> list[str]:
    """Write the stock files and ours; return the reasons why stock files are missing."""
    from lenet_edge.export import exporter
    from lenet_edge.export.checkpoint import load_checkpoint
    from lenet_edge.flows.mix_search import tune
    from lenet_edge.runtimes import get_target
    from lenet_edge.support.quiet import quiet

    training, test = mnist.load("train"), mnist.load("test")
    print("Exporting and tuning ...", file=sys.stderr)
    exporter.export(CHECKPOINT, folder, training, test, precisions=exporter.PRECISIONS)
    tune(CHECKPOINT, folder, get_target("litert-xnnpack"), training, test)
    stock, notes = folder / "stock", []
    stock.mkdir()
    images = to_input(training.images[:NUM_CALIBRATION])
    for name, make in STOCK.items():
        try:
            with quiet():
                make(load_checkpoint(CHECKPOINT), stock, images)
        except Exception as error:  # the exporters differ between versions of Keras
            notes.append(f"{name}: {' '.join(str(error).split())[:200]}")
    return notes


def keras_onnx(model: Any, stock: Path, images: Any) -> None:
    model(images[:1])  # Keras exports only a model that was called
    model.export(stock / "keras.onnx", format="onnx", verbose=False)


def keras_litert(model: Any, stock: Path, images: Any) -> None:
    model(images[:1])
    model.export(stock / "keras_litert.tflite", format="litert", verbose=False)


def converter(model: Any, stock: Path, images: Any) -> None:
    import tensorflow as tf

    for precision in ("float32", "float16", "dynamic", "int8"):
        lite = tf.lite.TFLiteConverter.from_keras_model(model)
        if precision != "float32":
            lite.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            lite.target_spec.supported_types = [tf.float16]
        if precision == "int8":
            lite.representative_dataset = lambda: ([image[None]] for image in images)
            lite.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            lite.inference_input_type = lite.inference_output_type = tf.int8
        (stock / f"converter_{precision}.tflite").write_bytes(lite.convert())


def tf2onnx_and_ort(model: Any, stock: Path, images: Any) -> None:
    import onnx
    import tensorflow as tf
    import tf2onnx
    from onnxruntime.quantization import CalibrationDataReader, quantize_dynamic, quantize_static

    function = tf.function(
        lambda image: model(image, training=False),
        input_signature=[tf.TensorSpec((None, 28, 28, 1), tf.float32, name="image")],
    )
    graph, _ = tf2onnx.convert.from_function(function, function.input_signature, opset=17)
    plain = stock / "tf2onnx.onnx"
    onnx.save(graph, plain)
    name = graph.graph.input[0].name

    class Samples(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._images = iter(images)

        def get_next(self) -> Any:
            image = next(self._images, None)
            return None if image is None else {name: image[None]}

    quantize_static(plain, stock / "ort_static.onnx", Samples())
    quantize_dynamic(plain, stock / "ort_dynamic.onnx")


STOCK = {
    "model.export onnx": keras_onnx,
    "model.export litert": keras_litert,
    "TFLiteConverter": converter,
    "tf2onnx, ONNX Runtime": tf2onnx_and_ort,
}


def open_file(folder: Path, file: str) -> tuple[Call, Call, Call]:
    """Return three functions: images to a batch, batch to output (timed), output to logits."""
    path = path_of(folder, file)
    if path.suffix == ".onnx":
        return open_onnx(path, bound=file.endswith(" bound"))
    from ai_edge_litert.interpreter import Interpreter

    from lenet_edge.runtimes._tflite import tensor_specs
    from lenet_edge.target import dequantize, quantize

    interpreter = Interpreter(str(path), num_threads=1)
    details, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    (spec,), (output_spec,) = tensor_specs([details]), tensor_specs([output], "output")
    size = 0

    def make_batch(images: Any) -> Any:
        nonlocal size
        if len(images) != size:
            size = len(images)
            interpreter.resize_tensor_input(details["index"], images.shape)
            interpreter.allocate_tensors()
        return quantize(images, spec)

    def call(batch: Any) -> Any:
        interpreter.set_tensor(details["index"], batch)
        interpreter.invoke()
        return interpreter.get_tensor(output["index"])

    return make_batch, call, lambda values: dequantize(values, output_spec)


def open_onnx(path: Path, bound: bool) -> tuple[Call, Call, Call]:
    import onnxruntime

    from lenet_edge.runtimes.onnxruntime import BoundSession

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    if bound:
        ours = BoundSession(session, onnxruntime.__version__)
        return (
            ours.prepare,
            (lambda _: ours.infer()),
            (lambda _: ours.logits()),
        )
    name = session.get_inputs()[0].name
    return (lambda images: {name: images}), (lambda feed: session.run(None, feed)[0]), np.asarray


def describe_files(folder: Path, files: list[str]) -> dict[str, Any]:
    """Return the size of each file and its accuracy relative to the Keras model."""
    from lenet_edge.export.checkpoint import load_checkpoint

    test = mnist.load("test")
    images = to_input(test.images)
    expected = load_checkpoint(CHECKPOINT).predict(images, batch_size=1000, verbose=0).argmax(1)
    facts = {}
    for file in files:
        make_batch, call, read = open_file(folder, file)
        parts = [read(call(make_batch(part))) for part in np.split(images, 20)]
        predicted = np.concatenate(parts).argmax(1)
        change = int((predicted == test.labels).sum() - (expected == test.labels).sum())
        facts[file] = {
            "size_bytes": path_of(folder, file).stat().st_size,
            "accuracy_change_points": 100 * change / len(test),
            "agreement": float((predicted == expected).mean()),
        }
    return facts


def time_group(folder: Path, files: list[str]) -> list[dict[str, Any]]:
    runs = []
    for number in range(NUM_PROCESSES):
        command = [
            sys.executable,
            "-m",
            "benchmarks.export_baselines",
            str(folder),
            str(number),
            *files,
        ]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=ROOT)
        runs.append(np.array(json.loads(done.stdout.splitlines()[-1])))
    return [
        {"file": file, **dataclasses.asdict(ratio)}
        for file, ratio in zip(files, ratios(runs), strict=True)
    ]


def sample(folder: Path, seed: int, files: list[str]) -> list[list[float]]:
    """Return the seconds of each call, of shape (files, rounds)."""
    images = to_input(mnist.load("test").images[:64])
    sessions = [open_file(folder, file) for file in files]
    batches = [[make_batch(image[None]) for image in images] for make_batch, _, _ in sessions]
    order = np.random.default_rng(seed).permutation(len(files)).tolist()
    clock = time.perf_counter_ns
    samples = np.empty((len(files), ROUNDS))
    for number in range(-WARMUP_ROUNDS, ROUNDS):
        for index in order:
            call, batch = sessions[index][1], batches[index][number % len(images)]
            call(batch)  # untimed: fills the caches with the weights again
            begin = clock()
            call(batch)
            samples[index, max(number, 0)] = clock() - begin
    seconds: list[list[float]] = (samples / 1e9).tolist()
    return seconds


def check_bars(groups: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return each bar with its measured ratio, and whether the ratio meets it."""
    checked = []
    for title, file, limit in BARS:
        ours = [row for row in groups[title] if not row["file"].startswith("stock/")]
        named = [row for row in ours if row["file"] == file]
        row = named[0] if named else min(ours, key=lambda row: float(row["median"]))
        checked.append(
            {
                "group": title,
                "file": row["file"],
                "limit": limit,
                "ratio": row["median"],
                "low": row["low"],
                "high": row["high"],
                "met": row["median"] <= limit,
                "excluded": row["low"] > limit,
            }
        )
    return checked


def show(result: dict[str, Any]) -> None:
    for title, rows in result["groups"].items():
        print(f"\n{title}: microseconds, ratio to the first")
        for row in rows:
            facts = result["files"][row["file"]]
            print(
                f"  {row['file']:34} {row['p50_s'] * 1e6:6.1f}  {row['median']:.3f}"
                f" [{row['low']:.3f}, {row['high']:.3f}]  {facts['size_bytes']:7,} bytes"
                f"  {facts['accuracy_change_points']:+.2f} pp  {facts['agreement']:.2%}"
            )
    print()
    for bar in result["bars"]:
        verdict = "met" if bar["met"] else "NOT MET" if bar["excluded"] else "within the interval"
        print(f"  {bar['group']}, {bar['file']}: {bar['ratio']:.3f} <= {bar['limit']}: {verdict}")
    for note in result["notes"]:
        print(f"  not exported: {note}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(sample(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])))
    else:
        main()
