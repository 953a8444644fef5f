"""Intervals hold what they say as often as they say; ties, outliers and modes are seen."""

from __future__ import annotations

import numpy as np
import pytest

from lenet_edge.results.stats import (
    count_outliers,
    median_interval,
    pooled_median_interval,
    quantile_interval,
    ratio,
    t_95,
    two_modes,
)

TRIES = 2000


def test_the_interval_of_the_median_covers_it_as_often_as_it_says() -> None:
    """Of 2,000 samples from a skewed distribution whose median is known."""
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(TRIES):
        low, high = median_interval(random.exponential(size=101))
        covered += low <= np.log(2) <= high
    assert 0.94 <= covered / TRIES <= 0.98


def test_the_interval_of_a_percentile_does_so_too() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(TRIES):
        low, high = quantile_interval(random.exponential(size=1000), 0.9)
        covered += low <= np.log(10) <= high
    assert 0.94 <= covered / TRIES <= 0.98


def processes(
    random: np.random.Generator, count: int, median: float = 1.0, spread: float = 0.02
) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Processes whose own medians differ, as those of real ones do."""
    own = median * np.exp(random.normal(0, spread, count))
    return [one * np.exp(random.normal(0, 0.005, 50)) for one in own]


@pytest.mark.parametrize("count", [2, 3, 6])
def test_pooling_knows_that_processes_differ(count: int) -> None:
    random = np.random.default_rng(0)
    covered = alone = 0
    for _ in range(TRIES):
        samples = processes(random, count)
        low, high = pooled_median_interval(samples)
        covered += low <= 1 <= high
        low, high = median_interval(np.concatenate(samples))
        alone += low <= 1 <= high
    assert covered / TRIES >= 0.94
    assert alone / TRIES < 0.8  # what samples alone would have promised


@pytest.mark.parametrize("counts", [(2, 2), (3, 3), (3, 6)])
@pytest.mark.parametrize("truth", [1.0, 1.3])
def test_the_interval_of_a_ratio_covers_it(counts: tuple[int, int], truth: float) -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(TRIES):
        found = ratio(processes(random, counts[0], truth), processes(random, counts[1]))
        covered += found.low <= truth <= found.high
    assert 0.93 <= covered / TRIES <= 0.99


def test_a_difference_of_5_percent_is_found() -> None:
    random = np.random.default_rng(0)
    found = sum(
        not ratio(
            processes(random, 6, 1.05, 0.01), processes(random, 6, 1.0, 0.01), resolution=0.01
        ).equal
        for _ in range(200)
    )
    assert found >= 190


def test_drift_that_hits_both_alike_cancels_in_pairs() -> None:
    random = np.random.default_rng(0)
    drift = np.exp(random.normal(0, 0.2, 5))
    one = [1.1 * d * np.exp(random.normal(0, 0.005, 50)) for d in drift]
    other = [d * np.exp(random.normal(0, 0.005, 50)) for d in drift]
    assert ratio(one, other).equal
    paired = ratio(one, other, paired=True)
    assert not paired.equal
    assert 1.08 < paired.low < paired.value < paired.high < 1.12


@pytest.mark.parametrize("quantile", [0.5, 0.9, None])
def test_one_process_each_falls_back_on_its_samples(quantile: float | None) -> None:
    random = np.random.default_rng(0)
    one, other = (np.exp(random.normal(0, 0.1, 2000)) for _ in range(2))
    found = ratio([one], [other], quantile=quantile)
    assert found.equal
    assert 0.9 < found.low < found.high < 1.1
    assert not ratio([one * 1.1], [other], quantile=quantile).equal


def test_what_was_not_asked_to_be_precise_is_not_told_apart() -> None:
    one, other = [np.full(9, 1.004)] * 3, [np.full(9, 1.0)] * 3
    assert not ratio(one, other).equal
    assert ratio(one, other, resolution=0.01).equal


def test_calls_that_the_clock_reads_as_0_have_a_ratio() -> None:
    assert ratio([np.zeros(9)] * 2, [np.zeros(9)] * 2).equal


@pytest.mark.parametrize(("df", "t"), [(1, 12.706), (4, 2.776), (30, 2.042), (1e9, 1.960)])
def test_students_t(df: float, t: float) -> None:
    assert t_95(df) == pytest.approx(t, abs=1e-3)
    assert t_95(df + 0.5) <= t_95(df)


def test_outliers_are_counted() -> None:
    samples = np.random.default_rng(0).normal(10, 0.1, 1000)
    usual = count_outliers(samples)
    assert usual <= 10
    assert count_outliers(np.append(samples, [20.0] * 7)) == pytest.approx(usual + 7, abs=1)


def test_two_modes_are_seen_and_one_is_not() -> None:
    random = np.random.default_rng(0)
    one, other = random.normal(10, 0.1, 1000), random.normal(12, 0.1, 1000)
    found = two_modes(np.concatenate([one, other]))
    assert found is not None
    assert found == pytest.approx((10, 12), abs=0.2)
    assert two_modes(one) is None
    assert two_modes(np.append(one, other[:20])) is None  # a few slow ones are outliers
    assert two_modes(random.exponential(size=5000)) is None
    assert two_modes(np.full(1000, 1e-8)) is None
