"""The ranking admits ties, by the figure of the scenario."""

from __future__ import annotations

import dataclasses

import numpy as np

from lenet_edge.report.rank import ranks
from lenet_edge.results.result_file import BenchRun, Measurement
from tests.report.builders import measurement, process_samples


def ranked(*measurements: Measurement, scenario: str | None = None) -> dict[str, str]:
    settings = {"precision": 0.01, "scenario": scenario}
    run = dataclasses.replace(BenchRun.of_this_machine(measurements), settings=settings)
    return {key[0]: place for key, place in ranks(run).items()}


def test_ties_share_a_place_and_the_next_one_counts_them() -> None:
    found = ranked(
        measurement("third", 20, 1),
        measurement("first", 10.05, 1),
        measurement("also", 10, 1),
        measurement("last", 30, 1),
    )
    assert found == {"also": "1=", "first": "1=", "third": "3", "last": "4"}


def test_what_is_invalid_or_does_nothing_has_no_place() -> None:
    throttled = dataclasses.replace(measurement("a", 1, 1), invalid="throttled")
    nothing = dataclasses.replace(measurement("c", 0.1, 1), target="null")
    assert ranked(throttled, measurement("b", 2, 1), nothing) == {"b": "1"}


def test_batches_are_ranked_apart() -> None:
    run = BenchRun.of_this_machine((measurement("a", 10, 1, 1), measurement("a", 90, 1, 8)))
    assert set(ranks(run).values()) == {"1"}


def test_the_scenario_says_what_counts() -> None:
    """One is faster half the time, and slow each fifth call."""
    often_slow = np.where(np.arange(1000) % 5 == 0, 50e-6, 10e-6)
    steady = np.full(1000, 12e-6)
    cells = [
        dataclasses.replace(measurement(name, 1, 1), processes=(process_samples(samples),))
        for name, samples in (("often slow", often_slow), ("steady", steady))
    ]
    assert ranked(*cells) == {"often slow": "1", "steady": "2"}
    for scenario in ("single-stream", "offline", "multi-stream"):
        assert ranked(*cells, scenario=scenario) == {"steady": "1", "often slow": "2"}
