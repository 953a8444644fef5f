"""LeNet as C against every runtime of this machine.

Six processes interleave the calls of all files. Before each process, the peak of the machine is
measured, so that the physical limit belongs to the same minutes. The last part times each kernel of
the float32 code.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.native import CHECKPOINT
from lenet_edge import worker
from lenet_edge.bench.interleave import NUM_PROCESSES, sample
from lenet_edge.data import mnist
from lenet_edge.data.dataset import to_input
from lenet_edge.inspection import inspect
from lenet_edge.runtimes._native_build import FLAGS
from tests.c_files import write_changed

REFERENCE = "lenet_float32.tflite on litert-xnnpack"
OTHERS = (
    ("lenet_float32.tflite", "litert-xnnpack"),
    ("lenet_dynamic.tflite", "litert-xnnpack"),
    ("lenet_int8.tflite", "litert-xnnpack"),
    ("lenet_mixed.tflite", "litert-xnnpack"),
    ("lenet_float32.tflite", "tflite-runtime-cpu"),
    ("lenet_float32.onnx", "onnxruntime-cpu"),
    ("lenet_int8.onnx", "onnxruntime-cpu"),
    ("lenet_float32.onnx", "openvino-cpu"),
)
# "nothing" also multiplies by zeros, so it takes as long as an image without zeros.
C_FILES = tuple(
    (f"lenet_native_{name}.c", "native-cpu") for name in ("float32", "dynamic", "int8", "nothing")
)
ROUNDS = {1: 2000, 128: 60}
Runs = dict[str, list[npt.NDArray[np.float64]]]


def measure() -> dict[str, Any]:
    """Return the times of all files, the stages of the float32 code, and the bars."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder)
        peak = folder / "peak"
        source = Path(__file__).with_name("peak.c")
        flags = ("-O3", "-march=native", "-ffp-contract=fast")
        subprocess.run(["cc", *flags, source, "-o", peak], check=True)
        macs = sum(layer.macs or 0 for layer in inspect(folder / "lenet_float32.tflite"))
        peaks: list[list[float]] = []
        timed = {size: time_files(folder, size, peak, peaks) for size in ROUNDS}
        stages = time_stages(folder)
    gmacs, gbytes = (float(np.median(side)) for side in zip(*peaks, strict=True))
    limit_s = macs / gmacs / 1e9
    return {
        "macs": macs,
        "peak_gmacs": gmacs,
        "peak_l2_gbytes": gbytes,
        "physical_limit_s": limit_s,
        "files": {size: table(runs, size) for size, runs in timed.items()},
        "stages_s": stages,
        "bars": bars(timed, limit_s),
    }


def make_files(folder: Path) -> None:
    from lenet_edge.export.exporter import export
    from lenet_edge.flows.mix_search import tune
    from lenet_edge.runtimes import get_target

    print("Exporting and tuning ...", file=sys.stderr)
    formats, precisions = ("tflite", "onnx", "native"), ("float32", "dynamic", "int8")
    training, test = mnist.load("train"), mnist.load("test")
    export(CHECKPOINT, folder, training, test, formats, precisions)
    tune(CHECKPOINT, folder, get_target("litert-xnnpack"), training, test)
    plain = folder / "lenet_native_float32.c"
    text = plain.read_text()
    skips = "found += (bits << 1) != 0;"
    assert skips in text
    changed = text.replace(skips, "found += 1; (void)bits;")
    write_changed(plain, folder / "lenet_native_nothing.c", changed)


def time_files(folder: Path, batch_size: int, peak: Path, peaks: list[list[float]]) -> Runs:
    """Return the seconds of each call for each file and process; append to `peaks`."""
    pairs = [*OTHERS, *C_FILES]
    runs: Runs = {f"{file} on {target}": [] for file, target in pairs}
    for number in range(NUM_PROCESSES):
        print(f"Batch {batch_size}, process {number + 1} of {NUM_PROCESSES}", file=sys.stderr)
        peaks.append([float(text) for text in subprocess.check_output([peak]).split()])
        call = sample.bind(
            files=[(folder / file, target) for file, target in pairs],
            batch_size=batch_size,
            num_threads=1,
            rounds=ROUNDS[batch_size],
            seed=number,
        )
        seconds = worker.run(call.within(600))
        for name, samples in zip(runs, seconds, strict=True):
            runs[name].append(np.array(samples))
    return runs


def ratio(runs: Runs, of: str, to: str) -> tuple[float, float, float]:
    """Return the median ratio of neighbouring calls, and its range over the processes."""
    medians = [float(np.median(a / b)) for a, b in zip(runs[of], runs[to], strict=True)]
    return float(np.median(medians)), min(medians), max(medians)


def p50_s(runs: Runs, name: str) -> float:
    return float(np.median([np.median(seconds) for seconds in runs[name]]))


def table(runs: Runs, batch_size: int) -> dict[str, Any]:
    rows = {}
    for name in runs:
        middle, low, high = ratio(runs, name, REFERENCE)
        p50 = p50_s(runs, name) / batch_size
        rows[name] = {"p50_per_image_s": p50, "ratio": middle, "low": low, "high": high}
    return rows


def bars(timed: dict[int, Runs], limit_s: float) -> list[dict[str, Any]]:
    """Return each bar with its measured ratio, and whether the ratio meets it."""
    rows = []
    c_files = [f"{file} on {target}" for file, target in C_FILES[:-1]]
    others = [f"{file} on {target}" for file, target in OTHERS]
    for what, size, of, to, bar in (
        ("float32 against LiteRT float32", 1, c_files[:1], [REFERENCE], 0.42),
        ("fastest against the fastest other", 1, c_files, others, 0.40),
        ("fastest against the fastest other", 128, c_files, others, 0.75),
    ):
        runs = timed[size]
        first, second = (min(side, key=lambda name: p50_s(runs, name)) for side in (of, to))
        middle, low, high = ratio(runs, first, second)
        rows.append({"what": what, "batch_size": size, "of": first, "to": second, "bar": bar,
                     "ratio": middle, "low": low, "high": high, "met": middle <= bar})  # fmt: skip
    first = min(c_files, key=lambda name: p50_s(timed[1], name))
    ratios = [float(np.median(seconds)) / limit_s for seconds in timed[1][first]]
    middle = float(np.median(ratios))
    rows.append({"what": "fastest against the physical limit", "batch_size": 1, "of": first,
                  "to": "the MACs at the peak of float multiply-adds", "bar": 1.8, "ratio": middle,
                  "low": min(ratios), "high": max(ratios), "met": middle <= 1.8})  # fmt: skip
    return rows


def time_stages(folder: Path) -> dict[str, float]:
    """Return the seconds of each kernel per image.

    The code is built once per kernel, and each build stops after another kernel. The time of a
    kernel is the difference of two builds.
    """
    text = (folder / "lenet_native_float32.c").read_text()
    kernels: list[str] = []

    def stop_after(call: re.Match[str]) -> str:
        number = len(kernels) % count
        kernels.append(call[1])
        return (
            f"{call[0]}#if STAGE == {number}\n"
            f'  __asm__ volatile("" ::"r"({call[2]}) : "memory"); (void)logits; return;\n#endif\n'
        )

    body = re.compile(r"^  (\w+)\([^;]*?(\w+)(?:, \d+)?\);\n", re.MULTILINE)
    functions = re.compile(r"^static[^\n]* run\w*\(const float \*image.*?^}\n", re.M | re.S)
    count = len(body.findall(functions.findall(text)[0])) - 1  # the last call copies the logits
    text = functions.sub(lambda function: body.sub(stop_after, function[0], count=count), text)
    names = [re.sub("_avx512$", "", name) for name in kernels[:count]]
    source = folder / "stages.c"
    source.write_text(text)
    images = to_input(mnist.load("test").images[:128])
    logits = np.zeros((128, 10), np.float32)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (images, logits)]
    functions_by_stage = []
    for number in range(count):
        library = folder / f"stage{number}.so"
        define = f"-DSTAGE={number}"
        subprocess.run(["cc", *FLAGS, "-w", define, source, "-o", library], check=True)
        functions_by_stage.append(ctypes.CDLL(str(library))["lenet_batch"])
    samples = np.empty((count, 300))
    for turn in range(samples.shape[1]):
        for number, function in enumerate(functions_by_stage):
            begin = time.perf_counter_ns()
            function(*pointers, ctypes.c_size_t(128))
            samples[number, turn] = (time.perf_counter_ns() - begin) / 128e9
    stages = np.diff(np.median(samples, axis=1), prepend=0)
    return {f"{n} {name}": float(s) for n, (name, s) in enumerate(zip(names, stages, strict=True))}


def show(result: dict[str, Any]) -> None:
    for size, files in result["files"].items():
        print(f"\nBatch {size}: microseconds an image, ratio to {REFERENCE}")
        for name, row in files.items():
            print(
                f"  {name:44} {row['p50_per_image_s'] * 1e6:7.2f}  {row['ratio']:.3f}"
                f" [{row['low']:.3f}, {row['high']:.3f}]"
            )
    print(
        f"\nPeak: {result['peak_gmacs']:.1f} GMAC/s, {result['peak_l2_gbytes']:.0f} GB/s from L2;"
        f" {result['macs']:,} MACs take {result['physical_limit_s'] * 1e6:.2f} us"
    )
    for name, seconds in result["stages_s"].items():
        print(f"  {name:24} {seconds * 1e6:6.2f} us")
    print()
    for bar in result["bars"]:
        print(
            f"  batch {bar['batch_size']}: {bar['what']}: {bar['ratio']:.3f}"
            f" [{bar['low']:.3f}, {bar['high']:.3f}] <= {bar['bar']}:"
            f" {'met' if bar['met'] else 'NOT MET'}\n    {bar['of']} / {bar['to']}"
        )
