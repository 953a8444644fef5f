"""Latency estimates: coverage beside disturbed processes, ratios, ties, boards."""

from __future__ import annotations

import numpy as np
import pytest

from lenet_edge.results.latency_estimate import (
    LatencyEstimate,
    LatencyRatio,
    estimate_latency,
    find_undisturbed,
    latency_ratio,
)
from lenet_edge.results.stats import Samples

TRIES = 150
SLOWER = 1.4


def draw(random: np.random.Generator, count: int, slow_share: float = 0.0) -> list[Samples]:
    """Return samples of processes with a true median of 1, some of them slow as a whole."""
    spread = min(0.008 * np.sqrt(2 / random.chisquare(2)), 0.08)
    slow = np.where(random.random(count) < slow_share, SLOWER, 1.0)
    medians = slow * np.exp(random.normal(0, spread, count))
    return [median * np.exp(random.normal(0, 0.003, 25)) for median in medians]


def estimate(processes: list[Samples], quantile: float | None = 0.5) -> LatencyEstimate:
    kept = find_undisturbed([float(np.median(samples)) for samples in processes])
    return estimate_latency(processes, kept, quantile)


def pairs_of(first: list[Samples], second: list[Samples]) -> list[tuple[float, float]]:
    return [(float(np.median(a)), float(np.median(b))) for a, b in zip(first, second, strict=True)]


@pytest.mark.parametrize(
    ("slow_share", "count", "covers"),
    [(0, 3, 0.94), (0, 8, 0.94), (1 / 3, 3, 0.9), (1 / 3, 6, 0.94)],
)
def test_intervals_cover_the_median_beside_disturbed_processes(
    slow_share: float, count: int, covers: float
) -> None:
    random = np.random.default_rng(0)
    estimates = [estimate(draw(random, count, slow_share)) for _ in range(TRIES)]
    assert sum(e.low <= 1 <= e.high for e in estimates) / TRIES >= covers
    assert np.median([e.half_width for e in estimates]) < 0.03


def test_one_slow_process_of_three_does_not_blur_the_latency() -> None:
    steady = [np.full(99, 9.5e-6), np.full(99, 9.6e-6)]
    exact = estimate([*steady, np.full(99, 14e-6)])
    assert exact.value == pytest.approx(9.55e-6)
    assert exact.half_width < 0.03


def test_a_lone_fast_process_has_an_interval_up_to_the_next_one() -> None:
    lone = estimate([np.full(99, 9.5e-6), np.full(99, 14e-6), np.full(99, 14.1e-6)])
    assert (lone.value, lone.high) == (9.5e-6, 14e-6)


def test_processes_are_left_out_at_a_gap_only() -> None:
    assert find_undisturbed([1.0, 1.06, 1.12, 1.5]).tolist() == [True, True, True, False]
    assert find_undisturbed([1.0, 1.07, 1.14, 1.2]).tolist() == [True, True, True, False]
    assert find_undisturbed([2e-8, 1.7e-8], resolution=4e-8).all()


def test_boards_have_their_own_fastest_process() -> None:
    assert find_undisturbed([1.0, 1.01, 2.0, 2.01, 3.0], ["a", "a", "b", "b", "b"]).tolist() == [
        True, True, True, True, False,
    ]  # fmt: skip


def test_the_ratio_is_the_quotient_of_the_latencies() -> None:
    random = np.random.default_rng(0)
    first, second = estimate(draw(random, 5, 0.5)), estimate(draw(random, 5, 0.5))
    assert latency_ratio(first, second).value == pytest.approx(first.value / second.value)


@pytest.mark.parametrize(("slow_share", "drift"), [(0.0, 0.0), (1 / 3, 0.0), (0.0, 0.05)])
def test_equal_cells_tie_and_a_difference_of_10_percent_is_seen(
    slow_share: float, drift: float
) -> None:
    """Compare two cells in six rounds, also beside slow processes and in a drifting machine."""
    random, equal, seen = np.random.default_rng(0), 0, 0
    for _ in range(TRIES):
        speeds = np.exp(random.normal(0, drift, 6))
        slow, fast = (
            [
                speed * samples
                for speed, samples in zip(speeds, draw(random, 6, slow_share), strict=True)
            ]
            for _ in range(2)
        )
        for factor in (1.0, 1.1):
            scaled = [factor * samples for samples in slow]
            ratio = latency_ratio(estimate(scaled), estimate(fast), pairs_of(scaled, fast), 0.01)
            assert ratio.low <= ratio.value <= ratio.high
            equal += factor == 1 and ratio.equal
            seen += factor == 1.1 and not ratio.equal
    assert equal / TRIES >= 0.95
    assert seen / TRIES >= 0.93


@pytest.mark.parametrize("quantile", [0.5, 0.9, None])
def test_the_interval_of_a_single_process_is_that_of_its_calls(quantile: float | None) -> None:
    random = np.random.default_rng(0)
    first, second = (np.exp(random.normal(0, 0.1, 2000)) for _ in range(2))
    denominator = estimate([second], quantile)
    ratio = latency_ratio(estimate([first], quantile), denominator)
    assert ratio.equal
    assert 0.9 < ratio.low < ratio.high < 1.1
    assert not latency_ratio(estimate([first * 1.1], quantile), denominator).equal


def test_differences_below_the_resolution_are_ties() -> None:
    slow, fast = (estimate([np.full(9, value)]) for value in (1.004, 1.0))
    assert not latency_ratio(slow, fast).equal
    assert latency_ratio(slow, fast, resolution=0.01).tied


def test_calls_measured_as_0_seconds_have_a_ratio() -> None:
    zero = estimate([np.zeros(9)] * 2)
    assert latency_ratio(zero, zero).equal


@pytest.mark.parametrize(
    ("low", "high", "tied", "undecided"),
    [(0.95, 1.05, True, False), (0.95, 1.2, False, True), (1.01, 1.05, False, False)],
)
def test_a_wide_interval_is_no_tie(low: float, high: float, tied: bool, undecided: bool) -> None:
    ratio = LatencyRatio(1.02, low, high)
    assert (ratio.tied, ratio.undecided) == (tied, undecided)
