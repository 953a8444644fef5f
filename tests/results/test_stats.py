"""Statistics: coverage of the intervals, outliers and modes."""

from __future__ import annotations

import numpy as np
import pytest

from lenet_edge.results.stats import (
    count_outliers,
    median_interval,
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
