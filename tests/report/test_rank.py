"""Ranking: ties, cells without a rank, and the figure of each scenario."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lenet_edge.report.rank import ranks, tie_lines
from lenet_edge.results.result_file import BenchRun, Measurement
from tests.report.builders import measurement, process_samples


def ranked(*measurements: Measurement, scenario: str | None = None) -> dict[str, str]:
    settings = {"precision": 0.01, "scenario": scenario}
    run = dataclasses.replace(BenchRun.of_this_machine(measurements), settings=settings)
    return {key[0]: str(rank) for key, rank in ranks(run).items()}


def test_ties_share_a_rank_and_the_next_rank_counts_them() -> None:
    rank_by_file = ranked(
        measurement("third", 20, 1),
        measurement("first", 10.05, 1),
        measurement("also", 10, 1),
        measurement("last", 30, 1),
    )
    assert rank_by_file == {"also": "1=", "first": "1=", "third": "3", "last": "4"}


def test_invalid_cells_and_the_null_target_have_no_rank() -> None:
    throttled = dataclasses.replace(measurement("a", 1, 1), invalid="throttled")
    null = dataclasses.replace(measurement("c", 0.1, 1), target="null")
    assert ranked(throttled, measurement("b", 2, 1), null) == {"b": "1"}


def test_each_batch_size_has_its_own_ranking() -> None:
    run = BenchRun.of_this_machine((measurement("a", 10, 1, 1), measurement("a", 90, 1, 8)))
    assert set(map(str, ranks(run).values())) == {"1"}


def test_the_scenario_selects_the_figure() -> None:
    """Rank a cell that is slow on every fifth call against a steady cell with a larger median."""
    often_slow = np.where(np.arange(1000) % 5 == 0, 50e-6, 10e-6)
    steady = np.full(1000, 12e-6)
    cells = [
        dataclasses.replace(measurement(name, 1, 1), processes=(process_samples(samples),))
        for name, samples in (("often slow", often_slow), ("steady", steady))
    ]
    assert ranked(*cells) == {"often slow": "1", "steady": "2"}
    for scenario in ("single-stream", "offline", "multi-stream"):
        assert ranked(*cells, scenario=scenario) == {"steady": "1", "often slow": "2"}


def with_processes(name: str, *medians_us: float) -> Measurement:
    processes = tuple(process_samples(np.full(700, us * 1e-6)) for us in medians_us)
    return dataclasses.replace(measurement(name, 1, 1), processes=processes)


def test_ties_name_each_other_and_coarse_cells_are_no_ties() -> None:
    """Rank steady cells, and cells of which one or two processes of three are slow."""
    run = BenchRun.of_this_machine(
        (
            with_processes("a", 8.4, 8.41, 8.42),
            with_processes("b", 8.45, 8.44, 14.0),
            with_processes("c", 8.0, 14.0, 14.1),
            with_processes("d", 14.0, 14.1, 14.2),
        )
    )
    rank_by_file = {key[0]: rank for key, rank in ranks(run).items()}
    assert {name: str(rank) for name, rank in rank_by_file.items()} == {
        "c": "1?", "a": "1?", "b": "1?", "d": "4",
    }  # fmt: skip
    coarse = dataclasses.replace(run, measurements=run.measurements[:2])
    assert {str(rank) for rank in ranks(coarse).values()} == {"1="}
    assert tie_lines(coarse) == [
        "Rank 1= at batch 1: a on litert-xnnpack (8.4 µs) ties with b on litert-xnnpack (8.4 µs)"
    ]
    (line,) = tie_lines(run)
    assert line.startswith("Rank 1? at batch 1: c on litert-xnnpack (8.0 µs) cannot be separated")


def test_equal_latencies_are_named_in_one_line() -> None:
    run = BenchRun.of_this_machine((with_processes("b", 8, 8, 8), with_processes("a", 8, 8, 8)))
    (line,) = tie_lines(run)
    assert line.startswith("Rank 1= at batch 1: b on litert-xnnpack (8.0 µs) ties with a on ")


def test_the_ratio_of_two_cells_is_that_of_their_latencies() -> None:
    first, second = with_processes("a", 7.9, 8.4, 13), with_processes("b", 21, 21.5, 22)
    quotient = second.p50_s / first.p50_s
    assert second.ratio_to(first, paired=True).value == pytest.approx(quotient)
