"""Int8 against float32 as C on x86, for each instruction set of this machine, and two threads.

Two threads are also timed beside a program that keeps the last core busy.

The C files select the best instruction set at run time. Copies of them without the better ones
show the others. Times of other instruction sets need another machine: they are exact by emulation
(tests/export/native), but not measured here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.native import CHECKPOINT
from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact, load_artifact
from lenet_edge.bench.interleave import NUM_PROCESSES, InterleavedRatio, ratios, sample
from lenet_edge.bench.timing import make_batches
from lenet_edge.data import mnist
from lenet_edge.runtimes import get_target, open_session
from tests.c_files import write_changed

# For each instruction set of the int8 file: that of the float32 file, the processor's features,
# and the bar for the ratio.
LEVELS = {
    "vnni": ("avx512", ("avx512f", "avx512bw", "avx512vl", "avx512_vnni"), 0.6),
    "avxvnni": ("avx2", ("avx2", "fma", "avx_vnni"), None),
    "avx2": ("avx2", ("avx2", "fma"), 0.9),
}
ROUNDS = 2000
THREADS, BATCH_SIZE, TURNS = 2, 128, 300


def measure() -> dict[str, Any]:
    """Return the ratios int8 / float32, and the speed-up by two threads."""
    from lenet_edge.export.exporter import export

    features = Path("/proc/cpuinfo").read_text()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        training, test = mnist.load("train"), mnist.load("test")
        export(CHECKPOINT, folder, training, test, ("native",), ("float32", "int8"))
        rows = []
        for level, (float_level, needed, bar) in LEVELS.items():
            if not all(f" {feature}" in features for feature in needed):
                rows.append({"level": level, "missing": True, "bar": bar})
                continue
            files = [
                without_better(folder / "lenet_native_float32.c", float_level),
                without_better(folder / "lenet_native_int8.c", level),
            ]
            ratio = compare_files(files)[1]
            rows.append({"level": level, "ratio": ratio.median, "low": ratio.low,
                         "high": ratio.high, "p50_s": ratio.p50_s, "bar": bar})  # fmt: skip
        artifact = load_artifact(folder / "lenet_native_int8.c")
        threads = {**compare_threads(artifact), "bar": 1.8}
        with busy_core():
            beside = {**compare_threads(artifact), "bar": round(1 / 1.1, 2)}
    return {"levels": rows, "threads": threads, "threads_beside_a_busy_core": beside}


def compare_files(paths: list[Path]) -> list[InterleavedRatio]:
    runs = []
    for number in range(NUM_PROCESSES):
        print(f"{paths[-1].name}, process {number + 1} of {NUM_PROCESSES}", file=sys.stderr)
        files = [(path, "native-cpu") for path in paths]
        call = sample.bind(files=files, batch_size=1, num_threads=1, rounds=ROUNDS, seed=number)
        runs.append(np.array(worker.run(call.within(600))))
    return ratios(runs)


def without_better(path: Path, level: str) -> Path:
    """Return a copy of a C file that does not select instruction sets better than `level`."""
    text = path.read_text()
    for better in re.findall(r"return run_(\w+);", text):
        if better == level:
            break
        text = text.replace(f"return run_{better};", "{}")
    else:
        raise ValueError(f"{path.name} has no {level}")
    return write_changed(path, path.with_name(f"{path.stem}_{level}.c"), text).path


@contextmanager
def busy_core() -> Iterator[None]:
    """Keep the last core busy during the block."""
    core = max(os.sched_getaffinity(0))
    spin = f"import os; os.sched_setaffinity(0, [{core}])\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", spin])
    try:
        time.sleep(1)
        yield
    finally:
        process.kill()
        process.wait()


def compare_threads(artifact: Artifact) -> dict[str, Any]:
    """Return the time of a batch on one thread over that on several, in one process."""
    target, batches = get_target("native-cpu"), make_batches(artifact, BATCH_SIZE)
    with (
        closing(open_session(artifact, target, 1)) as single,
        closing(open_session(artifact, target, THREADS)) as several,
    ):
        seconds = np.empty((TURNS, 2))
        for turn in range(TURNS):
            for index, session in enumerate((single, several)):
                session.prepare(batches[turn % len(batches)])
                session.infer()
                begin = time.perf_counter()
                session.infer()
                seconds[turn, index] = time.perf_counter() - begin
    speed_ups = seconds[:, 0] / seconds[:, 1]
    return {"threads": THREADS, "batch_size": BATCH_SIZE, "load": os.getloadavg()[0],
            "speed_up": float(np.median(speed_ups)),
            "speed_up_of_minima": float(seconds[:, 0].min() / seconds[:, 1].min())}  # fmt: skip


def show(result: dict[str, Any]) -> None:
    print("\nLeNet, batch 1, one thread: int8 / float32, both as C")
    for row in result["levels"]:
        bar = f" (bar: {row['bar']})" if row["bar"] else ""
        if "missing" in row:
            print(f"  {row['level']:8} not measured: this machine does not have it{bar}")
        else:
            print(f"  {row['level']:8} {row['ratio']:.3f} [{row['low']:.3f}, {row['high']:.3f}],"
                  f" {row['p50_s'] * 1e6:.2f} us{bar}")  # fmt: skip
    print()
    for name, place in (("threads", ""), ("threads_beside_a_busy_core", " beside a busy core")):
        row = result[name]
        print(
            f"{row['threads']} threads, batch {row['batch_size']}{place}: {row['speed_up']:.2f}"
            f" times as fast as one ({row['speed_up_of_minima']:.2f} by the fastest calls);"
            f" the machine's load is {row['load']:.1f} (bar on an idle machine: {row['bar']})"
        )
