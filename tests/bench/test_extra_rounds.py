"""Rounds beyond the plan, with scripted replies: their cells, their number and their effect."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_edge.bench import limit
from lenet_edge.bench.plan import Plan, expand
from lenet_edge.bench.run_plan import BenchProgress
from lenet_edge.report.rank import ranks
from lenet_edge.results.measurement import Measurement
from lenet_edge.results.result_file import BenchRun
from lenet_edge.runtimes import get_target
from lenet_edge.selection import Pair
from lenet_edge.worker import Call
from tests.bench.scripted import drive, key_of, make_artifact, make_environment, measured

Latency = Callable[[str, int], float]  # of the process with this number, for this file
TRUE_US = {"a": 10.0, "b": 11.0, "c": 12.1, "d": 15.0, "e": 15.0, "f": 30.0}


def plan_of(folder: Path, names: str, rounds: int = 3) -> Plan:
    target = get_target("litert-xnnpack")
    pairs = [Pair(make_artifact(folder, f"{name}.tflite"), target) for name in names]
    return Plan(expand(pairs, (1,)), rounds=rounds)


def replies(latency_us: Latency, seconds: float = 0.1) -> Callable[[Call[Any]], Any]:
    """Return a script that answers the calls of each file with its next latency."""
    started: Counter[str] = Counter()

    def script(call: Call[Any]) -> Any:
        if call.function is limit.measure_peaks:
            return {}
        name = key_of(call)[0].removesuffix(".tflite")
        started[name] += 1
        cell = Measurement.from_json(measured(call, latency_us(name, started[name]) * 1e-6))
        process = dataclasses.replace(cell.processes[0], seconds=seconds)
        return dataclasses.replace(cell, processes=(process,)).to_json()

    return script


def run(
    plan: Plan, script: Callable[[Call[Any]], Any], earlier: BenchRun | None = None
) -> tuple[BenchRun, dict[str, int], int]:
    """Return the results, the number of processes of each file, and the announced extra ones."""
    progress = BenchProgress(plan, make_environment(), macs={})
    extra: list[int] = []
    if earlier:
        progress.resume(earlier)
    drive(progress.measure(plan.cells, extend=extra.append), script)
    results = progress.to_run()
    assert results.remaining == 0
    counts = {m.artifact.removesuffix(".tflite"): len(m.processes) for m in results.measurements}
    return results, counts, sum(extra)


def test_a_quiet_machine_gets_the_rounds_of_the_plan_only(tmp_path: Path) -> None:
    usual = (1.0, 1.01, 0.99)
    script = replies(lambda name, number: TRUE_US[name] * usual[number % 3])
    _, counts, extra = run(plan_of(tmp_path, "abcdef"), script)
    assert (set(counts.values()), extra) == ({3}, 0)


def test_a_single_round_stays_single(tmp_path: Path) -> None:
    _, counts, _ = run(plan_of(tmp_path, "ab", rounds=1), replies(lambda name, number: 10 * number))
    assert counts == {"a": 1, "b": 1}


def test_unclear_cells_get_processes_until_they_are_clear(tmp_path: Path) -> None:
    """Two of the first three processes of "b" are slow; its later ones are not."""

    def latency_us(name: str, number: int) -> float:
        return 14.0 if name == "b" and number in (2, 3) else TRUE_US[name]

    results, counts, extra = run(plan_of(tmp_path, "abcdef"), replies(latency_us))
    assert counts["b"] > 3
    assert {count for name, count in counts.items() if name != "b"} == {3}
    assert extra == sum(counts.values()) - 18
    assert [str(rank) for rank in ranks(results).values()] == ["1", "2", "3", "4=", "4=", "6"]
    numbers = {m.artifact[0]: [p.round for p in m.processes] for m in results.measurements}
    assert numbers["a"] == [1, 2, 3]
    assert numbers["b"] == list(range(1, counts["b"] + 1))


def test_many_slow_processes_call_for_more_processes_of_every_cell(tmp_path: Path) -> None:
    """All processes of a cell may be slow, if half of the others are."""

    def latency_us(name: str, number: int) -> float:
        return TRUE_US[name] * (1.4 if name != "f" and number % 2 else 1.0)

    _, counts, _ = run(plan_of(tmp_path, "abcf"), replies(latency_us))
    assert counts["f"] > 3


@pytest.mark.parametrize(("seconds", "most"), [(0.1, 12), (1.0, 5)])
def test_a_hopeless_cell_ends_at_its_processes_or_its_time(
    seconds: float, most: int, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    script = replies(lambda name, number: 10 * random.exponential(), seconds)
    _, counts, _ = run(plan_of(tmp_path, "a"), script)
    assert 3 <= counts["a"] <= min(most, 9)  # twice the plan is the budget of the run


def test_a_run_that_was_stopped_in_an_extra_round_goes_on(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "ab")
    script = replies(lambda name, number: 14.0 if name == "b" and 1 < number < 6 else 10.0)
    progress = BenchProgress(plan, make_environment(), macs={})
    kept: list[BenchRun] = []

    def stop_after_7(call: Call[Any]) -> Any:
        if len(kept) == 7:
            raise KeyboardInterrupt
        return script(call)

    with pytest.raises(KeyboardInterrupt):
        drive(
            progress.measure(plan.cells, keep=lambda: kept.append(progress.to_run())), stop_after_7
        )
    before = sum(len(m.processes) for m in kept[-1].measurements)
    results, counts, _ = run(plan, script, kept[-1])
    assert before == 7
    assert sum(counts.values()) > 7
    rounds = [process.round for process in results.measurements[1].processes]
    assert rounds == sorted(set(rounds), key=lambda number: number or 0)


@pytest.mark.costly
def test_beside_slow_processes_the_ranking_is_right(tmp_path: Path) -> None:
    """Draw runs in which one process of three is slower by 40 % as a whole."""
    random, tries, right, tied, covered = np.random.default_rng(1), 8, 0, 0, 0
    plan = plan_of(tmp_path, "abcdef")
    for _ in range(tries):
        script = replies(
            lambda name, number: (
                TRUE_US[name]
                * np.exp(random.normal(0, 0.01))
                * (1.4 if random.random() < 1 / 3 else 1.0)
            )
        )
        results, _, _ = run(plan, script)
        cells = {m.artifact[0]: m for m in results.measurements}
        in_order = sorted(cells, key=lambda name: cells[name].p50_s)
        right += in_order[:3] == ["a", "b", "c"]
        tied += cells["d"].ratio_to(cells["e"], paired=True, resolution=0.01).equal
        for name, cell in cells.items():
            low, high = cell.p50_interval_s
            covered += low <= TRUE_US[name] * 1e-6 <= high
    assert right >= tries - 1
    assert tied >= tries - 1
    assert covered >= 0.9 * tries * len(TRUE_US)
