"""The job that measures a plan, with scripted replies: order, failures, resuming, saving."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lenet_edge.bench import limit, timing
from lenet_edge.bench.plan import Cell, Plan, expand
from lenet_edge.bench.run_plan import BenchProgress
from lenet_edge.bench.sampling import StopRule
from lenet_edge.errors import DataError, WorkerError
from lenet_edge.results.result_file import BenchRun, Skipped
from lenet_edge.runtimes import get_target
from lenet_edge.selection import Pair
from lenet_edge.worker import Call
from tests.bench.scripted import (
    PEAK,
    drive,
    key_of,
    latencies,
    make_artifact,
    make_environment,
    measured,
    reply,
)  # fmt: skip

PEAKS = "bench.limit:measure_peaks"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A plan of two artifacts, two batch sizes and three rounds."""
    target = get_target("litert-xnnpack")
    pairs = [Pair(make_artifact(tmp_path, f"{name}.tflite"), target) for name in "ab"]
    return Plan(expand(pairs, (1, 8)), rounds=3, stop=StopRule(3, 9, min_samples=662))


def begin(plan: Plan, earlier: BenchRun | None = None) -> BenchProgress:
    progress = BenchProgress(plan, make_environment(), macs={})
    if earlier:
        progress.resume(earlier)
    return progress


def fail(*cells: Cell, message: str = "it crashed") -> Any:
    """Return a script in which these cells fail."""
    keys = {cell.key for cell in cells}

    def script(call: Call[Any]) -> Any:
        if key_of(call) in keys:
            raise WorkerError(message)
        return reply(call)

    return script


def test_calls_come_in_the_order_of_the_plan(plan: Plan) -> None:
    progress = begin(plan)
    calls = drive(progress.measure(plan.cells))
    expected: list[Any] = []
    for order in plan.orders():
        expected += [PEAKS, *(cell.key for cell in order)]
    assert [key_of(call) for call in calls] == expected
    run = progress.to_run()
    assert [measurement.key for measurement in run.measurements] == sorted(
        cell.key for cell in plan.cells
    )
    assert {len(measurement.processes) for measurement in run.measurements} == {3}
    assert (run.remaining, run.skipped, run.settings) == (0, (), plan.settings)
    assert run.environment == make_environment()


def test_each_measurement_has_its_own_process_and_its_share_of_the_time(
    plan: Plan, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    plan = dataclasses.replace(plan, timeout_s=7, pythons={"litert": python})
    for call in drive(begin(plan).measure(plan.cells)):
        if call.function is limit.measure_peaks:
            assert not call.isolated  # it starts a process for each thread count
            continue
        assert call.function is timing.measure
        assert (call.isolated, call.python, call.timeout_s) == (True, python, 7)
        assert call.arguments["stop"] == dataclasses.asdict(StopRule(1, 3, min_samples=221))


def test_the_best_peak_of_all_rounds_counts(plan: Plan) -> None:
    cells = expand([plan.cells[0].pair], (1,), (4, 1, 2))
    peaks = iter([{1: 5.0, 2: 1.0}, {1: 2.0, 2: 7.0, 4: 3.0}])
    thread_counts = []

    def script(call: Call[Any]) -> Any:
        if call.function is not limit.measure_peaks:
            return measured(call)
        thread_counts.append(call.arguments["num_threads"])
        try:
            return next(peaks)
        except StopIteration:
            raise WorkerError("the peak cannot be measured") from None

    progress = begin(dataclasses.replace(plan, cells=cells))
    drive(progress.measure(cells), script)
    assert thread_counts == [[1, 2, 4]] * 3
    assert progress.to_run().peak_macs_per_s == {1: 5.0, 2: 7.0, 4: 3.0}
    assert len(progress.to_run().measurements) == 3  # a failed peak costs no measurement


def test_a_failed_cell_is_not_started_again(plan: Plan) -> None:
    bad = plan.cells[1]
    progress = begin(plan)
    lines: list[str] = []
    calls = drive(progress.measure(plan.cells, lines.append), fail(bad))
    counts = Counter(key_of(call) for call in calls)
    assert counts.pop(PEAKS) == 3
    assert counts == {cell.key: 1 if cell == bad else 3 for cell in plan.cells}
    assert lines.count(f"{bad}: it crashed") == 1
    assert lines.count(f"{bad}: nothing left to do") == 2
    assert len(lines) == 3 * len(plan.cells)
    assert progress.to_run().skipped == (Skipped("litert-xnnpack", "it crashed", "a.tflite"),)


def test_one_reason_is_recorded_once_for_an_artifact(plan: Plan) -> None:
    first, second, *_ = plan.cells
    assert first.pair == second.pair
    progress = begin(plan)
    drive(progress.measure(plan.cells), fail(first, second))
    assert len(progress.to_run().skipped) == 1


def test_a_cell_that_fails_later_keeps_its_samples_but_is_invalid(plan: Plan) -> None:
    cell, count = plan.cells[0], 0

    def script(call: Call[Any]) -> Any:
        nonlocal count
        count += key_of(call) == cell.key
        return fail(cell)(call) if count == 3 else reply(call)

    progress = begin(plan)
    drive(progress.measure(plan.cells), script)
    measurement = progress.to_run().measurements[0]
    assert measurement.key == cell.key
    assert len(measurement.processes) == 2
    assert measurement.invalid == "process 3 of 3 failed: it crashed"


def test_an_invalid_process_makes_its_measurement_invalid(plan: Plan) -> None:
    reasons = iter([None, "throttled", None])
    cells = plan.cells[:1]

    def script(call: Call[Any]) -> Any:
        return measured(call, invalid=next(reasons)) if key_of(call) != PEAKS else {}

    progress = begin(plan)
    drive(progress.measure(cells), script)
    (measurement,) = progress.to_run().measurements
    assert (measurement.invalid, len(measurement.processes)) == ("throttled", 3)


def test_results_are_kept_after_each_process(plan: Plan) -> None:
    progress, kept = begin(plan), []
    bad = plan.orders()[0][0]
    drive(progress.measure(plan.cells, keep=lambda: kept.append(progress.to_run())), fail(bad))
    # The failure is kept too; the two rounds that skip the cell keep nothing.
    assert len(kept) == 3 * len(plan.cells) - 2
    assert (kept[0].measurements, len(kept[0].skipped)) == ((), 1)
    steps = len(plan.steps())
    assert [run.remaining for run in kept[:4]] == [steps - 1, steps - 2, steps - 3, steps - 4]
    sizes = [sum(len(m.processes) for m in run.measurements) for run in kept]
    assert sizes == list(range(len(kept)))
    assert kept[-1].remaining <= 1
    assert kept[0].peak_macs_per_s == {1: PEAK}


def interrupted(plan: Plan, after: int) -> BenchRun:
    """Return the last results that a run kept before Ctrl-C in a later measurement."""
    progress = begin(plan)
    kept: list[BenchRun] = []

    def script(call: Call[Any]) -> Any:
        if len(kept) == after:
            raise KeyboardInterrupt
        return {1: 2 * PEAK} if call.function is limit.measure_peaks else measured(call, 1e-3)

    with pytest.raises(KeyboardInterrupt):
        drive(progress.measure(plan.cells, keep=lambda: kept.append(progress.to_run())), script)
    return kept[-1]


def test_a_resumed_run_measures_the_rest_only(plan: Plan) -> None:
    earlier = interrupted(plan, after=6)  # one round of four cells, and two cells of the next
    assert earlier.remaining == 6
    progress = begin(plan, earlier)
    lines: list[str] = []

    def script(call: Call[Any]) -> Any:
        return reply(call) if key_of(call) == PEAKS else measured(call, 1.01e-3)

    calls = drive(progress.measure(plan.cells, lines.append), script)
    assert sum(key_of(call) != PEAKS for call in calls) == 6
    assert sum(line.endswith("nothing left to do") for line in lines) == 6
    run = progress.to_run()
    assert run.remaining == 0
    assert run.peak_macs_per_s == {1: 2 * PEAK}  # of the earlier run, which is higher
    before = {m.key: latencies(m) for m in earlier.measurements}
    assert Counter(len(values) for values in before.values()) == {1: 2, 2: 2}
    for measurement in run.measurements:
        first = before[measurement.key]
        assert latencies(measurement) == [*first, *[1010] * (3 - len(first))]


def test_a_resumed_run_measures_failed_and_invalid_cells_again(plan: Plan) -> None:
    crashed, throttled, *_ = plan.orders()[0]

    def script(call: Call[Any]) -> Any:
        if key_of(call) == throttled.key:
            return measured(call, invalid="throttled")
        return fail(crashed)(call)

    first = begin(plan)
    drive(first.measure(plan.cells), script)
    progress = begin(plan, first.to_run())
    calls = drive(progress.measure(plan.cells))
    assert Counter(key_of(call) for call in calls if key_of(call) != PEAKS) == {
        crashed.key: 3, throttled.key: 3,
    }  # fmt: skip
    run = progress.to_run()
    assert len(run.measurements) == len(plan.cells)
    assert not any(measurement.invalid for measurement in run.measurements)
    assert run.skipped == ()


def test_another_file_or_machine_is_not_resumed(plan: Plan) -> None:
    earlier = interrupted(plan, after=2)
    (changed,) = {cell.pair for cell in plan.cells if cell.key == earlier.measurements[0].key}
    changed.artifact.path.write_text("another content")
    other = dataclasses.replace(changed.artifact, sha256="0" * 64)
    cells = tuple(
        dataclasses.replace(cell, pair=Pair(other, cell.pair.target))
        if cell.pair == changed
        else cell
        for cell in plan.cells
    )
    with pytest.raises(DataError, match="another plan"):
        begin(dataclasses.replace(plan, cells=cells), earlier)
    with pytest.raises(DataError, match="another plan"):
        begin(dataclasses.replace(plan, seed=1), earlier)
    elsewhere = BenchProgress(plan, make_environment("another machine"), macs={})
    with pytest.raises(DataError, match="from another machine"):
        elsewhere.resume(earlier)


def test_a_share_of_the_cells_is_measured_alone(plan: Plan) -> None:
    progress = begin(plan)
    share = plan.cells[1:3]
    calls = drive(progress.measure(share))
    assert Counter(map(key_of, calls)) == {PEAKS: 3, share[0].key: 3, share[1].key: 3}
    later = drive(progress.measure(plan.cells[3:]))  # cells that the job gets afterwards
    assert Counter(map(key_of, later)) == {PEAKS: 3, plan.cells[3].key: 3}
    assert len(progress.to_run().measurements) == 3


def test_a_share_without_cells_makes_no_call(plan: Plan) -> None:
    progress = begin(plan)
    assert drive(progress.measure([])) == []
    assert progress.to_run().remaining == 0
