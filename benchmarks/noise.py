"""Resolution of `bench` beside noise made on purpose: ``python -m benchmarks.noise --minutes 8``

A plan of 12 cells of one batch size is run many times, beside three kinds of noise:

    process     one worker process in three is slower by 40 % from its start to its end
    cache       a neighbour writes to 64 MB of memory without a pause
    core        a neighbour computes on one core, in turns of one second

The cells are copies of two files on LiteRT. Some copies are slowed by a known factor, so that pairs
are 10 % apart; others are identical, so that they tie. A quiet run, which comes first and should
have the machine for itself, gives the true latencies.

Results are kept in a file after each run. A later call continues it, so the runs may be made in
slices of a few minutes. Delete the file to start anew.
"""

import argparse
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import slowed
from benchmarks.record import RESULTS, ROOT
from lenet_edge import worker
from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.bench.plan import Plan, expand
from lenet_edge.bench.run_plan import BenchProgress
from lenet_edge.bench.sampling import StopRule
from lenet_edge.machine.environment import read_environment
from lenet_edge.results.result_file import BenchRun
from lenet_edge.runtimes import get_target
from lenet_edge.selection import Pair
from lenet_edge.support.files import atomic_write

KINDS = ("process", "cache", "core")
RUNS = 20
QUIET_ROUNDS = 9
SLOW_SHARE, SLOW_FACTOR = 1 / 3, 1.4
# The copies of each file, by their latency in percent of that of the file.
COPIES = {
    "lenet_int8.tflite": (100, 112, 126, 150, 150, 180),
    "lenet_float32.tflite": (100, 112, 126, 150, 150, 180),
}
# The pairs of copies to compare, by their percentages: ties, and copies that are 10 % apart. A copy
# of 112 % takes only 10 % longer, because the wrapper's own time is not slowed.
COMPARED = ((150, 150), (100, 112), (112, 126))
STOP = StopRule(min_time_s=0.1, max_time_s=5.0)
_NEIGHBOURS = {
    "cache": "import numpy\na = numpy.zeros(8 << 20)\nwhile True:\n    a += 1",
    "core": (
        "import os, time\nos.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])\n"
        "while True:\n    end = time.monotonic() + 1\n    while time.monotonic() < end: pass\n"
        "    time.sleep(1)"
    ),
}


def make_copies(folder: Path) -> list[Pair]:
    """Copy the files to names such as ``1_112_lenet_int8.tflite``, and pair them with LiteRT."""
    pairs = []
    for name, percents in COPIES.items():
        for number, percent in enumerate(percents):
            path = folder / f"{number}_{percent}_{name}"
            shutil.copyfile(ROOT / "exported" / name, path)
            shutil.copyfile(ROOT / "exported" / f"{name}.json", f"{path}.json")
            pairs.append(Pair(load_artifact(path), get_target("litert-xnnpack")))
    return pairs


def percent_and_file(name: str) -> tuple[int, str]:
    _, percent, file = name.split("_", 2)
    return int(percent), file


@contextlib.contextmanager
def noise(kind: str | None, packages: dict[str, Path]) -> Iterator[None]:
    """Make noise of one kind; None is quiet."""
    neighbour = None
    real, worker.PACKAGE = worker.PACKAGE, packages["slow" if kind == "process" else "steady"]
    try:
        if kind in _NEIGHBOURS:
            neighbour = subprocess.Popen([sys.executable, "-c", _NEIGHBOURS[kind]])
        yield
    finally:
        worker.PACKAGE = real
        if neighbour:
            neighbour.kill()
            neighbour.wait()


def measure(pairs: list[Pair], rounds: int, seed: int) -> tuple[BenchRun, float]:
    """Run the plan; return its results and its seconds."""
    planned = Plan(expand(pairs, (1,)), rounds=rounds, seed=seed, stop=STOP)
    progress = BenchProgress(planned, read_environment(), macs={})
    started = time.monotonic()
    worker.run_locally(progress.measure(planned.cells))
    return progress.to_run(), time.monotonic() - started


def facts_of(run: BenchRun, seconds: float) -> dict[str, Any]:
    """Return the latency of each cell, and the verdict on each pair of cells of one file."""
    cells = {m.artifact: m for m in run.measurements}
    ratios = []
    for first, second in itertools.combinations(sorted(cells), 2):
        (fast, file), (slow, other_file) = sorted(map(percent_and_file, (first, second)))
        if file != other_file or (fast, slow) not in COMPARED:
            continue
        slower, faster = sorted((first, second), key=percent_and_file, reverse=True)
        ratio = cells[slower].ratio_to(cells[faster], run.paired, STOP.precision)
        ratios.append(
            {"slower": slower, "faster": faster, "same": slow == fast, "low": ratio.low,
             "value": ratio.value, "high": ratio.high, "tied": ratio.tied, "equal": ratio.equal}
        )  # fmt: skip
    return {
        "seconds": seconds,
        "load": os.getloadavg()[0],
        "processes": sum(len(cell.processes) for cell in cells.values()),
        "disturbed": sum(cell.num_disturbed for cell in cells.values()),
        "cells": {name: (c.p50_s, *c.p50_interval_s) for name, c in cells.items()},
        "ratios": ratios,
    }


def summary(quiet: dict[str, Any], runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how often the runs of one kind were right."""
    quiet_s = {name: latency for name, (latency, *_) in quiet["cells"].items()}
    covered = [
        low <= quiet_s[name] <= high
        for run in runs
        for name, (_, low, high) in run["cells"].items()
    ]

    def count_wrong(same: bool, verdict: str, wrong_value: bool) -> dict[str, Any]:
        wrong: dict[str, int] = {}
        count = 0
        for ratio in (ratio for run in runs for ratio in run["ratios"] if ratio["same"] == same):
            count += 1
            pair = f"{ratio['slower']} / {ratio['faster']}"
            wrong[pair] = wrong.get(pair, 0) + (ratio[verdict] == wrong_value)
        return {"of_all": count, "wrong": sum(wrong.values()), "worst_pair": max(wrong.values())}

    return {
        "runs": len(runs),
        "top_3_right": sum(_fastest_3(run) == _fastest_3(quiet) for run in runs),
        "10_percent_apart_truly": sorted(
            quiet_s[ratio["slower"]] / quiet_s[ratio["faster"]]
            for ratio in quiet["ratios"]
            if not ratio["same"]
        ),
        "10_percent_apart_tied": count_wrong(False, "tied", True),
        "10_percent_apart_not_separated": count_wrong(False, "equal", True),
        "true_ties_called_different": count_wrong(True, "equal", False),
        "coverage": sum(covered) / len(covered),
        "processes": sum(run["processes"] for run in runs) / len(runs),
        "seconds": sum(run["seconds"] for run in runs) / len(runs),
    }


def _fastest_3(run: dict[str, Any]) -> list[tuple[int, str]]:
    """Return the fastest cells in order; identical copies may change places."""
    in_order = sorted(run["cells"].items(), key=lambda item: item[1][0])
    return [percent_and_file(name) for name, _ in in_order[:3]]


def show(results: dict[str, Any]) -> None:
    quiet = results["quiet"]
    print(f"quiet: {quiet['processes']} processes, load {quiet['load']:.1f}")
    for name, (latency, low, high) in sorted(quiet["cells"].items(), key=lambda item: item[1]):
        print(f"  {name:32} {latency * 1e6:7.2f} µs  {low * 1e6:7.2f} to {high * 1e6:7.2f}")
    for kind, runs in results["runs"].items():
        if not runs:
            continue
        totals = summary(quiet, runs)
        tied, unseparated, different = (
            totals[name]
            for name in ("10_percent_apart_tied", "10_percent_apart_not_separated",
                         "true_ties_called_different")
        )  # fmt: skip
        apart = totals["10_percent_apart_truly"]
        print(
            f"{kind}: {totals['runs']} runs of {totals['processes']:.0f} processes in"
            f" {totals['seconds']:.0f} s\n"
            f"  top 3 right in {totals['top_3_right']}\n"
            f"  the pairs are {min(apart):.3f} to {max(apart):.3f} apart\n"
            f"  10 % apart, tied: {tied['wrong']} of {tied['of_all']}, worst pair in"
            f" {tied['worst_pair']} runs\n"
            f"  10 % apart, not separated: {unseparated['wrong']} of {unseparated['of_all']}, worst"
            f" pair in {unseparated['worst_pair']} runs\n"
            f"  true ties called different: {different['wrong']} of {different['of_all']}, worst"
            f" pair in {different['worst_pair']} runs\n"
            f"  intervals that cover the quiet median: {totals['coverage']:.1%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="end after the run at this time")
    parser.add_argument("--runs", type=int, default=RUNS, help="runs of each kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="by default in benchmarks/results/<machine>")
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    machine = BenchRun.of_this_machine()
    path = options.output or machine.default_path(RESULTS).with_name("noise.json")
    results: dict[str, Any] = {"runs": {kind: [] for kind in KINDS}}
    if path.exists():
        results = json.loads(path.read_text())

    def keep() -> None:
        facts = {"created_at": machine.created_at, "git_commit": machine.git_commit,
                 "environment": machine.to_json()["environment"], **results}  # fmt: skip
        facts["summary"] = {
            kind: summary(results["quiet"], runs) for kind, runs in results["runs"].items() if runs
        }
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(facts, indent=1) + "\n")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        packages = {
            kind: slowed.noisy_package(folder / kind, share, SLOW_FACTOR)
            for kind, share in (("steady", 0.0), ("slow", SLOW_SHARE))
        }
        pairs = make_copies(folder)
        if "quiet" not in results:
            with noise(None, packages):
                results["quiet"] = facts_of(*measure(pairs, QUIET_ROUNDS, seed=0))
            keep()
        while time.monotonic() < until:
            open_kinds = [k for k in options.kinds if len(results["runs"][k]) < options.runs]
            if not open_kinds:
                break
            kind = min(open_kinds, key=lambda kind: len(results["runs"][kind]))
            runs = results["runs"][kind]
            with noise(kind, packages):
                runs.append(facts_of(*measure(pairs, options.rounds, seed=len(runs) + 1)))
            keep()
            print(f"{kind} {len(runs)}/{options.runs}: {runs[-1]['seconds']:.0f} s,"
                  f" {runs[-1]['processes']} processes", flush=True)  # fmt: skip
    show(results)
    print(f"Kept in {path}")


if __name__ == "__main__":
    main()
