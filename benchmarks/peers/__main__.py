"""LeNet on every installed engine, batch 1, one thread: ``python -m benchmarks.peers [--quick]``

Each engine has a process of its own, because some cannot share one. The processes take turns in
blocks of 20 ms, so that a disturbance of the machine affects all alike. Each ratio compares an
engine with the float32 C file in the same turn. All processes are started three times. CPU time
stands beside wall time: an engine with hidden threads uses more of it. An engine whose classes
differ from the reference is named and not ranked. Engines that are not installed are named. The
comparison takes about two minutes; `--quick` makes one start and few turns, and keeps no results.
The results are in benchmarks/results/<machine>/<time>-<commit>-peers.json.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.engines import ENGINES, LEFT_OUT, Call, Engine
from benchmarks.record import EXPORTED, ROOT, keep
from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.artifacts.reference import Reference
from lenet_edge.classifier_io import to_model_input
from lenet_edge.data import mnist

STARTS, TURNS, BLOCK_S = 3, 10, 0.02
NUM_IMAGES = 500  # for the agreement with the reference
TIMED_IMAGES = 64
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "TVM_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def images() -> Any:
    """Return test images as values for the float model."""
    artifact = load_artifact(Path(EXPORTED) / "lenet_float32.onnx")
    return to_model_input(mnist.load("test").images[:NUM_IMAGES], artifact)


def run_engine(number: int, folder: Path) -> None:
    """Open an engine and describe it in a line of JSON; then time a block per line of stdin."""
    # The engines print on standard output too. Their texts go to standard error.
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    call = ENGINES[number].open(folder)
    values = images()
    logits = []
    for image in values:
        call.load(image[None])
        call.infer()
        logits.append(np.array(call.logits()).reshape(-1))
    (path,) = Path(EXPORTED).glob("reference-*.npz")
    expected = Reference.load(path).logits[:NUM_IMAGES]
    agreement = (np.argmax(logits, axis=1) == expected.argmax(axis=1)).mean()
    begin = time.perf_counter()
    for _ in range(20):
        call.infer()
    count = max(10, int(BLOCK_S * 20 / (time.perf_counter() - begin)))
    ready = {"version": call.version, "agreement": float(agreement)}
    print(json.dumps(ready), file=replies)
    for _ in sys.stdin:
        print(json.dumps(block(call, values[:TIMED_IMAGES], count)), file=replies)


def block(call: Call, values: Any, count: int) -> dict[str, float]:
    """Return the times of one call, in microseconds: median, minimum and CPU."""
    gc.collect()
    gc.disable()
    times = []
    for number in range(count + count // 10):
        call.load(values[number % len(values)][None])
        begin = time.perf_counter_ns()
        call.infer()
        times.append(time.perf_counter_ns() - begin)
    del times[: count // 10]  # the other engines have filled the caches
    begin = time.process_time_ns()
    for _ in range(count):
        call.infer()
    cpu = (time.process_time_ns() - begin) / count
    gc.enable()
    return {
        "p50_us": float(np.median(times)) / 1e3,
        "min_us": min(times) / 1e3,
        "cpu_us": cpu / 1e3,
    }


class Process:
    """One engine in a process of its own."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self._errors = (folder / f"{ENGINES.index(engine)}.txt").open("w+")
        command = [
            sys.executable,
            "-m",
            "benchmarks.peers",
            str(ENGINES.index(engine)),
            str(folder),
        ]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            env={**os.environ, **_ONE_THREAD}, cwd=ROOT,
        )  # fmt: skip

    def read(self) -> dict[str, Any] | None:
        """Return the next reply, None if the process has ended."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        return json.loads(line) if line else None

    def measure(self) -> dict[str, Any] | None:
        """Return the times of one block, None if the process has ended."""
        assert self._process.stdin
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        return self.read()

    def error(self) -> str:
        """Return the last line that the process printed."""
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines() or [f"status {self._process.returncode}"]
        return lines[-1]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream:
                stream.close()


def measure(starts: int, turns: int) -> dict[str, Any]:
    """Measure all engines that are installed."""
    missing = {engine.label: reason for engine in ENGINES if (reason := engine.absence())}
    present = [engine for engine in ENGINES if engine.label not in missing]
    facts: dict[str, dict[str, Any]] = {}
    blocks: dict[str, list[list[dict[str, float]]]] = {}
    with tempfile.TemporaryDirectory() as name:
        for start in range(starts):
            processes = [Process(engine, Path(name)) for engine in present]
            try:
                running = []
                for process in processes:
                    label = process.engine.label
                    if ready := process.read():
                        facts[label] = ready
                        running.append(process)
                        blocks.setdefault(label, []).append([])
                    else:
                        missing[label] = process.error()
                        present.remove(process.engine)
                for turn in range(turns):
                    print(f"\rStart {start + 1}/{starts}, turn {turn + 1}/{turns} ", end="",
                          file=sys.stderr, flush=True)  # fmt: skip
                    for process in running:
                        if times := process.measure():
                            blocks[process.engine.label][-1].append(times)
            finally:
                for process in processes:
                    process.close()
    print(file=sys.stderr)
    if ENGINES[0].label in missing:
        raise SystemExit(f"{ENGINES[0].label} cannot be measured: {missing[ENGINES[0].label]}")
    base = blocks[ENGINES[0].label]
    rows = [_row(engine, facts[engine.label], blocks[engine.label], base) for engine in present]
    rows.sort(key=lambda row: row["ratio"])
    return {
        "batch_size": 1,
        "threads": 1,
        "starts": starts,
        "turns": turns,
        "load": os.getloadavg()[0],
        "engines": len({engine.name for engine in present}),
        "rows": rows,
        "missing": {**missing, **LEFT_OUT},
    }


def _row(
    engine: Engine, facts: dict[str, Any], starts: list[list[dict[str, float]]],
    base: list[list[dict[str, float]]],
) -> dict[str, Any]:  # fmt: skip
    """Return the figures of an engine: its ratio is the median over the starts."""
    ratios = sorted(
        float(np.median([a["p50_us"] / b["p50_us"] for a, b in zip(own, other, strict=False)]))
        for own, other in zip(starts, base, strict=True)
    )
    every = [times for start in starts for times in start]
    return {
        "engine": engine.name, "file": engine.file, **facts,
        "p50_us": float(np.median([times["p50_us"] for times in every])),
        "min_us": min(times["min_us"] for times in every),
        "cpu_us": float(np.median([times["cpu_us"] for times in every])),
        "ratio": float(np.median(ratios)), "low": ratios[0], "high": ratios[-1],
        "is_right": facts["agreement"] >= 0.99,
    }  # fmt: skip


def show(result: dict[str, Any]) -> None:
    print(
        f"\nLeNet on {result['engines']} engines, batch 1, one thread; ratio to float32 C\n"
        f"{'engine':<23}{'file':<32}{'version':<18}{'p50 us':>8}{'min':>8}{'CPU':>8}{'ratio':>7}"
    )
    for row in result["rows"]:
        span = f"{row['low']:.2f} to {row['high']:.2f}"
        wrong = "" if row["is_right"] else f"  WRONG: agrees on {row['agreement']:.0%}"
        print(
            f"{row['engine']:<23}{row['file']:<32}{row['version'][:17]:<18}{row['p50_us']:8.1f}"
            f"{row['min_us']:8.1f}{row['cpu_us']:8.1f}{row['ratio']:7.2f}  {span}{wrong}"
        )
    print(f"\n{claim(result)}")
    for label, reason in result["missing"].items():
        print(f"Not measured: {label}: {reason}")


def claim(result: dict[str, Any]) -> str:
    """Return the sentence that the figures support."""
    right = [row for row in result["rows"] if row["is_right"]]
    first = right[0]
    other = next(row for row in right if row["engine"] != first["engine"])
    return (
        f"{first['engine']} ({first['file']}) is the fastest of {result['engines']} engines"
        f" measured, one thread, batch 1; the next engine, {other['engine']} ({other['file']}),"
        f" takes {other['ratio'] / first['ratio']:.1f} times as long"
    )


def main() -> None:
    quick = sys.argv[1:] == ["--quick"]
    if len(sys.argv) == 3:
        run_engine(int(sys.argv[1]), Path(sys.argv[2]))
        return
    result = measure(1, 3) if quick else measure(STARTS, TURNS)
    show(result)
    if not quick:
        print(f"Kept in {keep('peers', result).relative_to(ROOT)}")


if __name__ == "__main__":
    main()
