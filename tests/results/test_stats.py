"""Statistics: coverage of the intervals, ties, outliers and modes."""

from __future__ import annotations

import numpy as np
import pytest

from lenet_edge.results.stats import (
    count_outliers,
    latency_ratio,
    median_interval,
    pooled_median_interval,
    quantile_interval,
    t_95,
    two_modes,
)

TRIES = 2000


def test_the_interval_of_the_median_has_its_nominal_coverage() -> None:
    """Draw 2,000 times from a skewed distribution with a known median."""
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(TRIES):
        low, high = median_interval(random.exponential(size=101))
        covered += low <= np.log(2) <= high
    assert 0.94 <= covered / TRIES <= 0.98


def test_the_interval_of_a_percentile_has_its_nominal_coverage() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(TRIES):
        low, high = quantile_interval(random.exponential(size=1000), 0.9)
        covered += low <= np.log(10) <= high
    assert 0.94 <= covered / TRIES <= 0.98


def processes(
    random: np.random.Generator, count: int, median: float = 1.0, spread: float = 0.02
) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Return samples of processes whose medians differ, as those of real processes do."""
    medians = median * np.exp(random.normal(0, spread, count))
    return [own_median * np.exp(random.normal(0, 0.005, 50)) for own_median in medians]


@pytest.mark.parametrize("count", [2, 3, 6])
def test_the_pooled_interval_covers_the_spread_between_processes(count: int) -> None:
    random = np.random.default_rng(0)
    covered = covered_without_pooling = 0
    for _ in range(TRIES):
        samples = processes(random, count)
        low, high = pooled_median_interval(samples)
        covered += low <= 1 <= high
        low, high = median_interval(np.concatenate(samples))
        covered_without_pooling += low <= 1 <= high
    assert covered / TRIES >= 0.94
    assert covered_without_pooling / TRIES < 0.8


@pytest.mark.costly
@pytest.mark.parametrize("counts", [(2, 2), (3, 3), (3, 6)])
@pytest.mark.parametrize("expected", [1.0, 1.3])
def test_the_interval_of_a_ratio_has_its_nominal_coverage(
    counts: tuple[int, int], expected: float
) -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(TRIES):
        ratio = latency_ratio(processes(random, counts[0], expected), processes(random, counts[1]))
        covered += ratio.low <= expected <= ratio.high
    assert 0.93 <= covered / TRIES <= 0.99


def test_a_difference_of_5_percent_is_detected() -> None:
    random = np.random.default_rng(0)
    detected = sum(
        not latency_ratio(
            processes(random, 6, 1.05, 0.01), processes(random, 6, 1.0, 0.01), resolution=0.01
        ).equal
        for _ in range(200)
    )
    assert detected >= 190


def test_drift_shared_by_both_cancels_in_pairs() -> None:
    random = np.random.default_rng(0)
    drift = np.exp(random.normal(0, 0.2, 5))
    slow = [1.1 * d * np.exp(random.normal(0, 0.005, 50)) for d in drift]
    fast = [d * np.exp(random.normal(0, 0.005, 50)) for d in drift]
    assert latency_ratio(slow, fast).equal
    paired = latency_ratio(slow, fast, paired=True)
    assert not paired.equal
    assert 1.08 < paired.low < paired.value < paired.high < 1.12


@pytest.mark.parametrize("quantile", [0.5, 0.9, None])
def test_the_ratio_of_single_processes_uses_the_spread_of_their_samples(
    quantile: float | None,
) -> None:
    random = np.random.default_rng(0)
    first, second = (np.exp(random.normal(0, 0.1, 2000)) for _ in range(2))
    ratio = latency_ratio([first], [second], quantile=quantile)
    assert ratio.equal
    assert 0.9 < ratio.low < ratio.high < 1.1
    assert not latency_ratio([first * 1.1], [second], quantile=quantile).equal


def test_differences_below_the_resolution_are_ties() -> None:
    slow, fast = [np.full(9, 1.004)] * 3, [np.full(9, 1.0)] * 3
    assert not latency_ratio(slow, fast).equal
    assert latency_ratio(slow, fast, resolution=0.01).equal


def test_calls_measured_as_0_seconds_have_a_ratio() -> None:
    assert latency_ratio([np.zeros(9)] * 2, [np.zeros(9)] * 2).equal


@pytest.mark.parametrize(("df", "t"), [(1, 12.706), (4, 2.776), (30, 2.042), (1e9, 1.960)])
def test_t_95_matches_the_table(df: float, t: float) -> None:
    assert t_95(df) == pytest.approx(t, abs=1e-3)
    assert t_95(df + 0.5) <= t_95(df)


def test_outliers_are_counted() -> None:
    samples = np.random.default_rng(0).normal(10, 0.1, 1000)
    usual = count_outliers(samples)
    assert usual <= 10
    assert count_outliers(np.append(samples, [20.0] * 7)) == pytest.approx(usual + 7, abs=1)


def test_two_modes_are_detected() -> None:
    random = np.random.default_rng(0)
    fast, slow = random.normal(10, 0.1, 1000), random.normal(12, 0.1, 1000)
    modes = two_modes(np.concatenate([fast, slow]))
    assert modes is not None
    assert modes == pytest.approx((10, 12), abs=0.2)
    assert two_modes(fast) is None
    assert two_modes(np.append(fast, slow[:20])) is None  # 20 slow samples are outliers
    assert two_modes(random.exponential(size=5000)) is None
    assert two_modes(np.full(1000, 1e-8)) is None
