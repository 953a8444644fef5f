"""Accuracy of `bench`: ``python -m benchmarks.harness [overhead] [agreement] [repeat]``

    overhead    time that sampling adds to the runtime's bare call, in one process
    agreement   medians against a hand-written loop, ONNX Runtime's own profiling and
                litert-benchmark, in fresh processes that take turns
    repeat      verdicts of `compare` for the same plan twice, and for inference slowed by 5 %

Each part prints a table. Without arguments, all parts run, and their results are kept in
benchmarks/results/<machine>/harness.json.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import slowed
from benchmarks.record import RESULTS, ROOT
from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact, load_artifact
from lenet_edge.bench import plan
from lenet_edge.bench.run_plan import run_plan
from lenet_edge.bench.sampling import StopRule, take_samples
from lenet_edge.bench.timing import make_batches
from lenet_edge.cli._terminal import progress_bar
from lenet_edge.report.comparison import compare
from lenet_edge.results.result_file import BenchRun
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.runtimes._tflite import InterpreterSession
from lenet_edge.runtimes.null import NullSession
from lenet_edge.runtimes.onnxruntime import BoundSession
from lenet_edge.selection import Pair

TURNS = 7
SLOWED_BY = 0.05
INT8, FLOAT, ONNX = (
    load_artifact(ROOT / "exported" / name)
    for name in ("lenet_int8.tflite", "lenet_float32.tflite", "lenet_float32.onnx")
)


def overhead() -> list[dict[str, Any]]:
    """Compare `sampling.take_samples` with blocks of the runtime's bare call."""
    rows = []
    for artifact, name in ((INT8, "null"), (INT8, "litert-xnnpack"), (ONNX, "onnxruntime-cpu")):
        batches = make_batches(artifact, 1)
        with closing(open_session(artifact, get_target(name))) as session:
            session.prepare(batches[0])
            call = _bare_call(session)
            sampled, bare = [], []
            for _ in range(1 + TURNS):
                samples = take_samples(session, batches, 1, StopRule(0.1, 0.1))
                sampled.append(float(np.median(samples[:, 1])) * 1e6)
                bare.append(_per_call_us(call))
        harness_us, bare_us = statistics.median(sampled[1:]), statistics.median(bare[1:])
        rows.append(
            {"what": name, "harness_us": harness_us, "bare_us": bare_us,
             "adds_us": harness_us - bare_us, "limit_us": 0.3}
        )  # fmt: skip
    return rows


def _bare_call(session: Any) -> Callable[[], object]:
    """Return the runtime's own call that `infer` of a session makes."""
    call: Callable[[], object]
    if isinstance(session, InterpreterSession):
        call = session._interpreter.invoke
    elif isinstance(session, BoundSession):
        call = session._run
    else:
        assert isinstance(session, NullSession), session
        call = lambda: None  # noqa: E731
    return call


def _per_call_us(call: Callable[[], object], calls: int = 100) -> float:
    """Return the median over blocks of calls without clock reads between them."""
    blocks = []
    for _ in range(max(10, int(0.1 / 1e-5 / calls))):
        begin = time.perf_counter_ns()
        for _ in range(calls):
            call()
        blocks.append((time.perf_counter_ns() - begin) / calls / 1e3)
    return statistics.median(blocks)


# Timing loops as a user would write them without this package; only their duration is chosen.
LITERT_LOOP = """
import sys, time, statistics
import numpy as np
from ai_edge_litert.interpreter import Interpreter
path, batch = sys.argv[1], int(sys.argv[2])
it = Interpreter(path, num_threads=1)
i, o = it.get_input_details()[0], it.get_output_details()[0]["index"]
it.resize_tensor_input(i["index"], (batch, 28, 28, 1)); it.allocate_tensors()
x = np.random.default_rng(0).random((batch, 28, 28, 1))
x = x.astype(i["dtype"]) if i["dtype"] == np.float32 else (x * 255 - 128).astype(i["dtype"])
times, end = [], time.perf_counter() + 0.6
while time.perf_counter() < end:
    it.set_tensor(i["index"], x)
    begin = time.perf_counter_ns(); it.invoke(); times.append(time.perf_counter_ns() - begin)
    it.get_tensor(o)
print(statistics.median(times[len(times) // 4:]) / 1e3)
"""
ORT_LOOP = """
import sys, time, statistics, json, os, tempfile
import numpy as np, onnxruntime
path, batch, profile = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "profile"
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1; options.enable_profiling = profile
options.profile_file_prefix = os.path.join(tempfile.mkdtemp(), "ort")
s = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
x = np.random.default_rng(0).random((batch, 28, 28, 1), np.float32)
b = s.io_binding(); b.bind_cpu_input(s.get_inputs()[0].name, x)
out = np.zeros((batch, 10), np.float32)
b.bind_output(s.get_outputs()[0].name, "cpu", 0, np.float32, out.shape, out.ctypes.data)
times, end = [], time.perf_counter() + 0.6
while time.perf_counter() < end and len(times) < (20000 if not profile else 3000):
    begin = time.perf_counter_ns(); s.run_with_iobinding(b)
    times.append(time.perf_counter_ns() - begin)
if profile:
    events = json.load(open(s.end_profiling()))
    times = [e["dur"] * 1e3 for e in events if e["name"] == "model_run"]
print(statistics.median(times[len(times) // 4:]) / 1e3)
"""


def agreement() -> list[dict[str, Any]]:
    """Compare `lenet-edge bench` with other timings of the same file, in turn."""
    cases: list[tuple[Artifact, str, int, str, Callable[[Path, int], float]]] = []
    for artifact in (INT8, FLOAT):
        for batch in (1, 32):
            cases.append((artifact, "litert-xnnpack", batch, "hand-written loop", _litert_loop))
        cases.append((artifact, "litert-xnnpack", 1, "litert-benchmark", _litert_benchmark))
    for batch in (1, 32, 1000):
        cases.append((ONNX, "onnxruntime-cpu", batch, "hand-written loop", _ort_loop))
        cases.append((ONNX, "onnxruntime-cpu", batch, "its own profiling", _ort_profile))
    rows = []
    with progress_bar("Agreement", len(cases) * TURNS) as step:
        for artifact, target, batch, other, measure in cases:
            medians, others = [], []
            cell = plan.expand([Pair(artifact, get_target(target))], [batch])
            for _ in range(TURNS):
                run = run_plan(plan.Plan(cell, rounds=1, stop=StopRule(0.3, 0.6)))
                medians.append(run.measurements[0].p50_s * 1e6)
                others.append(measure(artifact.path, batch))
                step(f"{artifact.name} b{batch}, {other}")
            ratio = statistics.median(np.array(medians) / np.array(others))
            rows.append(
                {"what": f"{artifact.name} b{batch}", "other": other,
                 "harness_us": statistics.median(medians), "other_us": statistics.median(others),
                 "ratio": ratio}
            )  # fmt: skip
    return rows


def _script(code: str, *arguments: object) -> float:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return float(done.stdout.split()[-1])


def _litert_loop(path: Path, batch: int) -> float:
    return _script(LITERT_LOOP, path, batch)


def _ort_loop(path: Path, batch: int) -> float:
    return _script(ORT_LOOP, path, batch, "plain")


def _ort_profile(path: Path, batch: int) -> float:
    return _script(ORT_LOOP, path, batch, "profile")


def _litert_benchmark(path: Path, batch: int) -> float:
    """Return the median of LiteRT's own tool, which rounds it to 10 µs."""
    tool = Path(sys.executable).with_name("litert-benchmark")
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [tool, "--model", path, "--num_threads", "1", "--warmup_runs", "2000",
                   "--num_runs", "20000", "--result_json", file.name]  # fmt: skip
        subprocess.run(list(map(str, command)), capture_output=True, check=True, timeout=120)
        return float(json.load(file)["latency"]["median_ms"]) * 1e3


def repeat() -> list[dict[str, Any]]:
    """Run a plan twice, and once slowed; count the verdicts of `compare`."""
    targets = (
        ("tflite", "litert-xnnpack"), ("tflite", "tflite-runtime-cpu"), ("onnx", "onnxruntime-cpu")
    )  # fmt: skip
    pairs = [
        Pair(load_artifact(ROOT / "exported" / f"lenet_{precision}.{format}"), get_target(target))
        for format, target in targets
        for precision in ("float32", "int8")
    ]
    cells = plan.expand(pairs, (1, 8, 32))
    # At batch size 1, the clock reads of the slowed session would add another 5 %.
    few = tuple(
        cell for cell in cells if cell.pair.target.name == "litert-xnnpack" and cell.batch_size > 1
    )
    first, again = (_bench(f"Run {name}", cells) for name in "AB")
    with tempfile.TemporaryDirectory() as folder:
        worker.PACKAGE, real = slowed.package(Path(folder), SLOWED_BY), worker.PACKAGE
        try:
            slow = _bench("Slowed", few)
        finally:
            worker.PACKAGE = real
    rows = []
    for what, base, new in (("A/A", first, again), ("A/slowed by 5 %", first, slow)):
        changes, _ = compare(base, new)
        for verdict in ("equal", "slower", "faster"):
            ratios = [change.ratio.value for change in changes if change.verdict == verdict]
            rows.append(
                {"what": what, "verdict": verdict, "cells": len(ratios), "of": len(changes),
                 "lowest_ratio": min(ratios, default=None),
                 "highest_ratio": max(ratios, default=None)}
            )  # fmt: skip
    return rows


def _bench(title: str, cells: tuple[plan.Cell, ...]) -> BenchRun:
    planned = plan.Plan(cells, rounds=6, stop=StopRule(0.6))
    with progress_bar(title, len(planned.steps())) as step:
        return run_plan(planned, step, extend=step.extend)


def show(title: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n{title}")
    names = list(rows[0])
    print("".join(f"{name:>21}" if i else f"{name:<26}" for i, name in enumerate(names)))
    for row in rows:
        cells = [f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()]
        print("".join(f"{cell:>21}" if i else f"{cell:<26}" for i, cell in enumerate(cells)))


PARTS = {"overhead": overhead, "agreement": agreement, "repeat": repeat}


def main() -> None:
    tables = {}
    for name in sys.argv[1:] or list(PARTS):
        tables[name] = PARTS[name]()
        show(name, tables[name])
    if len(tables) == len(PARTS):
        run = BenchRun.of_this_machine()
        path = run.default_path(RESULTS).with_name("harness.json")
        facts = {"created_at": run.created_at, "git_commit": run.git_commit,
                 "environment": run.to_json()["environment"]}  # fmt: skip
        path.write_text(json.dumps({**facts, **tables}, indent=1) + "\n")
        print(f"\nKept in {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
