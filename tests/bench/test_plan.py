"""The cells of a plan and their order, and plans that run in real processes."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from lenet_edge.artifacts.artifact import Artifact, load_artifact, write_manifest
from lenet_edge.bench import plan
from lenet_edge.bench.plan import Plan
from lenet_edge.bench.run_plan import run_plan
from lenet_edge.bench.sampling import StopRule
from lenet_edge.errors import DataError
from lenet_edge.results.result_file import BenchRun, Skipped
from lenet_edge.runtimes import get_target
from lenet_edge.selection import Pair
from lenet_edge.support.files import sha256_of

BATCH_SIZES = (1, 8, 32)
QUICK = StopRule(min_time_s=0, max_time_s=0.1, precision=1)


@pytest.fixture(scope="module")
def pairs(exported: Callable[[str], Artifact]) -> list[Pair]:
    return [
        Pair(exported(name), get_target(target))
        for name, target in (
            ("lenet_int8.tflite", "litert-xnnpack"),
            ("lenet_int8.tflite", "openvino-cpu"),
            ("lenet_float32.onnx", "onnxruntime-cpu"),
        )
    ]


def test_each_round_measures_every_cell_once(pairs: list[Pair]) -> None:
    planned = Plan(plan.expand(pairs, BATCH_SIZES, (1, 2)), rounds=4)
    expected = Counter(
        (pair.artifact.name, pair.target.name, batch, threads)
        for pair in pairs
        for batch in BATCH_SIZES
        for threads in (1, 2)
    )
    steps = [cell.key for cell in planned.steps()]
    size = len(planned.cells)
    assert len(steps) == 4 * size
    for start in range(0, len(steps), size):
        assert Counter(steps[start : start + size]) == expected


def test_the_seed_determines_the_order_of_each_round(pairs: list[Pair]) -> None:
    cells = plan.expand(pairs, BATCH_SIZES)
    first, again, other = (Plan(cells, 2, seed).steps() for seed in (0, 0, 1))
    assert first == again != other
    assert first[: len(cells)] != list(cells)
    assert first[: len(cells)] != first[len(cells) :]


def test_a_fixed_batch_size_has_cells_of_it_only(pairs: list[Pair]) -> None:
    fixed = Pair(dataclasses.replace(pairs[0].artifact, batch_size=8), pairs[0].target)
    assert [cell.batch_size for cell in plan.expand([fixed], BATCH_SIZES)] == [8]
    assert plan.expand([fixed], (1, 2)) == ()
    (refused,) = plan.refused_batches([fixed, pairs[1]], plan.expand([pairs[1]], (1, 2)))
    assert (refused.artifact, refused.target) == (fixed.artifact.name, fixed.target.name)
    assert refused.reason == "it is fixed to batches of 8; measure it with --batch-size 8"
    cells = plan.expand([fixed], (1, 2), own_batch=True)
    assert [cell.batch_size for cell in cells] == [8]
    assert plan.refused_batches([fixed], cells) == []
    assert plan.fixed_batches(cells) == [
        f"{fixed.artifact.name} is fixed to batches of 8, so it is measured at no other size"
    ]


def test_a_failed_cell_affects_no_other_cell(pairs: list[Pair], tmp_path: Path) -> None:
    for name in ("lenet_int8.tflite", "lenet_int8.tflite.json"):
        shutil.copy(pairs[0].artifact.path.with_name(name), tmp_path)
    path = tmp_path / "lenet_int8.tflite"
    path.write_bytes(path.read_bytes()[:1000])
    broken = dataclasses.replace(pairs[0].artifact, path=path, sha256=sha256_of(path))
    write_manifest(broken)
    cells = plan.expand([Pair(load_artifact(path), pairs[0].target), pairs[2]], (1, 4))
    lines: list[str] = []
    kept: list[BenchRun] = []
    run = run_plan(Plan(cells, rounds=2, stop=QUICK), lines.append, kept.append)
    assert [(m.artifact, m.batch_size) for m in run.measurements] == [
        ("lenet_float32.onnx", 1),
        ("lenet_float32.onnx", 4),
    ]
    assert [len(m.processes) for m in run.measurements] == [2, 2]
    (skip,) = run.skipped  # the same reason at both batch sizes is recorded once
    assert (skip.artifact, skip.target) == ("lenet_int8.tflite", "litert-xnnpack")
    assert skip.reason
    assert len(lines) == 2 * len(cells)
    assert len(kept) == 2 * 2 + 2  # a failed cell is not started again
    remaining = [kept_run.remaining for kept_run in kept]
    assert remaining == sorted(remaining, reverse=True)


@pytest.fixture(scope="module")
def stopped(pairs: list[Pair]) -> tuple[Plan, BenchRun]:
    """A plan of 2 cells and 2 rounds, and its results after three processes."""
    planned = Plan(plan.expand(pairs[::2], (1,)), rounds=2, stop=QUICK)
    kept: list[BenchRun] = []
    run_plan(planned, keep=kept.append)
    return planned, kept[2]


def test_a_stopped_run_continues(stopped: tuple[Plan, BenchRun]) -> None:
    planned, earlier = stopped
    assert earlier.remaining == 1
    started: list[str] = []
    run = run_plan(planned, started.append, earlier=earlier)
    assert sum("nothing left to do" in line for line in started) == 3
    assert [len(m.processes) for m in run.measurements] == [2, 2]
    before = {m.key: m.processes for m in earlier.measurements}
    for m in run.measurements:
        assert m.processes[: len(before[m.key])] == before[m.key]
    assert run.remaining == 0


def test_another_plan_or_machine_is_not_resumed(stopped: tuple[Plan, BenchRun]) -> None:
    planned, earlier = stopped
    with pytest.raises(DataError, match="another plan"):
        run_plan(dataclasses.replace(planned, rounds=3), earlier=earlier)
    with pytest.raises(DataError, match="another plan"):
        run_plan(dataclasses.replace(planned, cells=planned.cells[:1]), earlier=earlier)
    elsewhere = dataclasses.replace(earlier.environment, machine="a Raspberry Pi")
    with pytest.raises(DataError, match="from another machine \\(a Raspberry Pi"):
        run_plan(planned, earlier=dataclasses.replace(earlier, environment=elsewhere))


def test_a_cell_that_fails_later_keeps_its_samples_but_is_invalid(
    stopped: tuple[Plan, BenchRun], pairs: list[Pair], tmp_path: Path
) -> None:
    planned, _ = stopped
    short = dataclasses.replace(planned, timeout_s=0.01)
    (cell, *_) = planned.steps()
    first = run_plan(dataclasses.replace(planned, cells=(cell,), rounds=1), earlier=None)
    earlier = dataclasses.replace(first, settings=short.settings)
    run = run_plan(dataclasses.replace(short, cells=(cell,)), earlier=earlier)
    assert run.measurements[0].invalid is not None
    assert run.measurements[0].invalid.startswith("process 2 of 2 failed: bench.timing:measure did")
    assert "did not finish within 0.01 s" in run.skipped[0].reason


def test_a_runtime_of_another_python_runs_there(
    exported: Callable[[str], Artifact], tmp_path: Path
) -> None:
    artifact = exported("lenet_int8.tflite")
    missing = [
        Skipped("litert-xnnpack", "ai_edge_litert is not installed", artifact.name),
        Skipped("openvino-cpu", "openvino is not installed", artifact.name),
    ]
    pythons = {"litert": tmp_path / "python"}
    pairs, rest = plan.pairs_for_pythons([artifact], missing, pythons)
    assert [(pair.artifact, pair.target.name) for pair in pairs] == [(artifact, "litert-xnnpack")]
    assert rest == missing[1:]
    planned = Plan((), pythons=pythons)
    assert planned.python_for(pairs[0]) == pythons["litert"]
    other = Pair(artifact, get_target("openvino-cpu"))
    assert planned.python_for(other) is None
    assert Plan((), pythons={"": tmp_path}).python_for(other) == tmp_path
