"""Formatting of figures: units, decimals, missing values and plurals."""

from __future__ import annotations

import pytest

from lenet_edge.results.formatting import (
    MISSING,
    error,
    latency,
    microseconds,
    percent,
    plain_number,
    plural,
    points,
    short_number,
    target_and_threads,
)


@pytest.mark.parametrize(
    ("seconds", "without_unit", "with_unit"),
    [
        (1.234e-7, "0.123", "0.123 µs"),
        (4.72e-6, "4.7", "4.7 µs"),
        (999.9e-6, "999.9", "999.9 µs"),
        (1.234e-3, "1,234", "1.23 ms"),
        (0.9996, "999,600", "1,000 ms"),
        (2.5, "2,500,000", "2.50 s"),
    ],
)
def test_latencies_have_a_suitable_unit(seconds: float, without_unit: str, with_unit: str) -> None:
    assert (microseconds(seconds), latency(seconds)) == (without_unit, with_unit)


def test_missing_values_are_dashes() -> None:
    assert [f(None) for f in (microseconds, percent, points, short_number)] == [MISSING] * 4


def test_percentages_and_points_have_two_decimals_and_no_negative_zero() -> None:
    assert percent(0.98765) == "98.77"
    assert (points(-0.0), points(0.5), points(0.5, "+")) == ("0.00", "0.50", "+0.50")


def test_large_numbers_are_short() -> None:
    assert [short_number(n) for n in (9876, 123_456, 12_345_678)] == ["9876", "123k", "12M"]


def test_no_number_has_an_exponent() -> None:
    numbers = [plain_number(n) for n in (1019.6, 99.96, 0.4, 1.2e-5, -1234.5)]
    assert numbers == ["1,020", "100", "0.4", "0.000012", "-1,234"]
    assert [plain_number(99.9, 2), plain_number(1234.5, 2)] == ["100", "1,234"]
    assert [error(n) for n in (1019.6, 3.4, 0.1, 1.2e-5)] == ["1,020", "3.4", "0.10", "0.000012"]


def test_counts_agree_with_their_noun() -> None:
    assert (plural(1, "thread"), plural(4, "thread")) == ("1 thread", "4 threads")
    assert (target_and_threads("t", 1), target_and_threads("t", 4)) == ("t", "t ×4")
