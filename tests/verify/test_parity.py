"""Tests of the comparison of logits, against independent computations."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lenet_edge.errors import DataError
from lenet_edge.results.parity_report import wilson_interval
from lenet_edge.results.stats import mcnemar_p
from lenet_edge.verify.parity import compare_logits


def compare(*arguments: Any) -> SimpleNamespace:
    return SimpleNamespace(**compare_logits(*arguments))


def binomial_p(first: int, second: int) -> Fraction:
    """Compute the two-sided p-value of a fair coin, as the sum of all outcomes as uneven.

    The function builds the distribution toss by toss, without binomial coefficients.
    """
    distribution = [Fraction(1)]
    for _ in range(first + second):
        halves = [chance / 2 for chance in distribution]
        distribution = [
            a + b for a, b in zip([*halves, Fraction(0)], [Fraction(0), *halves], strict=True)
        ]
    unevenness = abs(first - second)
    total = Fraction(0)
    for heads, chance in enumerate(distribution):
        if abs(2 * heads - first - second) >= unevenness:
            total += chance
    return total


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_exact_binomial_test(first: int, second: int) -> None:
    assert mcnemar_p(first, second) == pytest.approx(float(binomial_p(first, second)), rel=1e-12)
    assert mcnemar_p(first, second) == mcnemar_p(second, first)


def test_mcnemar_of_large_tables_is_a_probability() -> None:
    assert mcnemar_p(0, 5000) == 0.0  # 2 ** -4999 is smaller than any float
    assert mcnemar_p(1000, 1000) == 1.0


@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_counts_equal_those_of_a_loop_over_the_images(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    reference = random.normal(size=(count, 10)).astype(np.float32)
    candidate = (reference + random.normal(size=(count, 10))).astype(np.float32)
    labels = random.integers(0, 10, count).astype(np.int32)

    was_right = now_right = agree = only_first = only_second = 0
    flips = []
    for i in range(count):
        was = max(range(10), key=lambda j: reference[i, j])
        now = max(range(10), key=lambda j: candidate[i, j])
        was_right += was == labels[i]
        now_right += now == labels[i]
        agree += was == now
        only_first += was == labels[i] != now
        only_second += now == labels[i] != was
        if was != now:
            flips.append((i, labels[i], was, now))

    fields = compare(reference, candidate, labels)
    assert fields.num_samples == count
    assert fields.reference_accuracy == pytest.approx(was_right / count)
    assert fields.candidate_accuracy == pytest.approx(now_right / count)
    assert fields.accuracy_drop == pytest.approx(100 * (was_right - now_right) / count)
    assert fields.top1_agreement == pytest.approx(agree / count)
    assert [(f.index, f.label, f.was, f.now) for f in fields.flips] == flips
    assert fields.mcnemar_p == mcnemar_p(only_first, only_second)
    assert fields.max_abs_error == pytest.approx(np.abs(candidate - reference).max(), rel=1e-5)
    assert fields.non_finite == 0


def test_identical_logits_have_no_error() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 10)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 10, 50).astype(np.int32)
    fields = compare(logits, logits.copy(), labels)
    assert (fields.accuracy_drop, fields.top1_agreement, fields.flips) == (0, 1, ())
    assert (fields.mcnemar_p, fields.max_abs_error, fields.mean_abs_error) == (1, 0, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_image_with_a_non_finite_logit_is_wrong(bad: float) -> None:
    """Also if argmax would give the right class."""
    logits = np.eye(10, dtype=np.float32)
    labels = np.arange(10, dtype=np.int32)
    candidate = logits.copy()
    candidate[3, 4] = bad
    fields = compare(logits, candidate, labels)
    assert fields.non_finite == 1
    assert fields.candidate_accuracy == 0.9
    assert [(flip.index, flip.now) for flip in fields.flips] == [(3, -1)]
    assert fields.max_abs_error == 0


def test_all_logits_not_finite() -> None:
    logits = np.eye(10, dtype=np.float32)
    fields = compare(logits, np.full_like(logits, np.nan), np.arange(10, dtype=np.int32))
    assert (fields.candidate_accuracy, fields.non_finite, fields.accuracy_drop) == (0, 10, 100)
    assert (fields.max_abs_error, fields.mean_abs_error) == (0, 0)


def test_different_shapes_are_an_error() -> None:
    logits, labels = np.zeros((5, 10), np.float32), np.zeros(5, np.int32)
    with pytest.raises(DataError, match=r"\(5, 10\).*\(5, 9\)"):
        compare(logits, logits[:, :9], labels)
    with pytest.raises(DataError, match=r"\(5, 10\).*\(4, 10\)"):
        compare(logits, logits[:4], labels)
    with pytest.raises(DataError, match="5 images but 4 labels"):
        compare(logits, logits, labels[:4])


@pytest.mark.costly
@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_equals_scipy_and_statsmodels(first: int, second: int) -> None:
    from scipy.stats import binomtest
    from statsmodels.stats.contingency_tables import mcnemar

    p = mcnemar_p(first, second)
    if first + second:
        assert p == pytest.approx(binomtest(first, first + second).pvalue, rel=1e-9)
        table = [[7, first], [second, 9]]
        assert p == pytest.approx(mcnemar(table, exact=True).pvalue, rel=1e-9)
    else:
        assert p == 1


@given(st.integers(1, 100_000), st.floats(0, 1))
def test_wilson_interval_equals_scipy_and_statsmodels(count: int, share: float) -> None:
    from scipy.stats import binomtest
    from statsmodels.stats.proportion import proportion_confint

    successes = round(share * count)
    low, high = wilson_interval(successes, count)
    scipy = binomtest(successes, count).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((scipy.low, scipy.high), abs=1e-9)
    statsmodels = proportion_confint(successes, count, alpha=0.05, method="wilson")
    assert (low, high) == pytest.approx(statsmodels, abs=1e-9)
    assert 0 <= low <= successes / count <= high <= 1


def test_counts_of_each_class() -> None:
    random = np.random.default_rng(3)
    reference, candidate = random.normal(size=(2, 500, 4)).astype(np.float32)
    labels = random.integers(0, 4, 500).astype(np.int32)
    candidate[7] = np.nan
    fields = compare(reference, candidate, labels, ["a", "b", "c", "d"])
    for number, counts in enumerate(fields.per_class):
        assert counts.name == "abcd"[number]
        assert counts.num_samples == (labels == number).sum()
        right = [
            candidate[i].argmax() == number for i in np.flatnonzero(labels == number) if i != 7
        ]
        assert counts.candidate_right == sum(right)
    matrix = np.array(fields.confusion)
    assert matrix.sum() == 499  # the image with NaN is in no column
    assert matrix.trace() == fields.candidate_accuracy * 500
    assert fields.confusion[2][1] == sum(
        labels[i] == 2 and candidate[i].argmax() == 1 for i in range(500) if i != 7
    )


def test_confidence_is_the_softmax_of_the_predicted_class() -> None:
    from scipy.special import softmax

    random = np.random.default_rng(4)
    reference, candidate = random.normal(scale=30, size=(2, 300, 10)).astype(np.float32)
    fields = compare(reference, candidate)
    was, now = (
        softmax(logits.astype(float), axis=1).max(axis=1) for logits in (reference, candidate)
    )
    assert fields.reference_confidence == pytest.approx(was.mean())
    assert fields.candidate_confidence == pytest.approx(now.mean())
    assert fields.confidence_drift == pytest.approx(np.abs(now - was).mean())
    for flip in fields.flips:
        assert flip.was_confidence == pytest.approx(was[flip.index])
        assert flip.confidence == pytest.approx(now[flip.index])
    # Outputs that are probabilities are not normalized again.
    chances = softmax(reference, axis=1)
    confidence = compare(chances, chances).reference_confidence
    assert confidence == pytest.approx(chances.max(axis=1).mean())
