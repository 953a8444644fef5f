"""The arithmetic of parity, against independent computations."""

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
from lenet_edge.verify.parity import compare_logits, mcnemar_p


def compare(*arguments: Any) -> SimpleNamespace:
    return SimpleNamespace(**compare_logits(*arguments))


def binomial_p(first: int, second: int) -> Fraction:
    """Return the two-sided p of a fair coin, by adding every outcome at least as uneven.

    The distribution is built one toss at a time, with no binomial coefficient.
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


def test_mcnemar_on_large_tables_stays_a_probability() -> None:
    assert mcnemar_p(0, 5000) == 0.0  # 2 ** -4999 is less than a float can tell
    assert mcnemar_p(1000, 1000) == 1.0


@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_every_count_against_one_image_after_another(seed: int, count: int) -> None:
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

    found = compare(reference, candidate, labels)
    assert found.num_samples == count
    assert found.reference_accuracy == pytest.approx(was_right / count)
    assert found.candidate_accuracy == pytest.approx(now_right / count)
    assert found.accuracy_drop == pytest.approx(100 * (was_right - now_right) / count)
    assert found.top1_agreement == pytest.approx(agree / count)
    assert [(f.index, f.label, f.was, f.now) for f in found.flips] == flips
    assert found.mcnemar_p == mcnemar_p(only_first, only_second)
    assert found.max_abs_error == pytest.approx(np.abs(candidate - reference).max(), rel=1e-5)
    assert found.non_finite == 0


def test_identical_logits() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 10)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 10, 50).astype(np.int32)
    found = compare(logits, logits.copy(), labels)
    assert (found.accuracy_drop, found.top1_agreement, found.flips) == (0, 1, ())
    assert (found.mcnemar_p, found.max_abs_error, found.mean_abs_error) == (1, 0, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_no_number_is_wrong(bad: float) -> None:
    """Even where argmax would point at the right class all the same."""
    logits = np.eye(10, dtype=np.float32)
    labels = np.arange(10, dtype=np.int32)
    candidate = logits.copy()
    candidate[3, 4] = bad
    found = compare(logits, candidate, labels)
    assert found.non_finite == 1
    assert found.candidate_accuracy == 0.9
    assert [(flip.index, flip.now) for flip in found.flips] == [(3, -1)]
    assert found.max_abs_error == 0


def test_all_answers_are_no_numbers() -> None:
    logits = np.eye(10, dtype=np.float32)
    found = compare(logits, np.full_like(logits, np.nan), np.arange(10, dtype=np.int32))
    assert (found.candidate_accuracy, found.non_finite, found.accuracy_drop) == (0, 10, 100)
    assert (found.max_abs_error, found.mean_abs_error) == (0, 0)


def test_what_does_not_fit_is_refused() -> None:
    logits, labels = np.zeros((5, 10), np.float32), np.zeros(5, np.int32)
    with pytest.raises(DataError, match=r"\(5, 10\).*\(5, 9\)"):
        compare(logits, logits[:, :9], labels)
    with pytest.raises(DataError, match=r"\(5, 10\).*\(4, 10\)"):
        compare(logits, logits[:4], labels)
    with pytest.raises(DataError, match="5 answers for 4 labels"):
        compare(logits, logits, labels[:4])


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_scipys_and_statsmodels(first: int, second: int) -> None:
    from scipy.stats import binomtest
    from statsmodels.stats.contingency_tables import mcnemar

    found = mcnemar_p(first, second)
    if first + second:
        assert found == pytest.approx(binomtest(first, first + second).pvalue, rel=1e-9)
        table = [[7, first], [second, 9]]
        assert found == pytest.approx(mcnemar(table, exact=True).pvalue, rel=1e-9)
    else:
        assert found == 1


@given(st.integers(1, 100_000), st.floats(0, 1))
def test_wilson_is_scipys_and_statsmodels(trials: int, share: float) -> None:
    from scipy.stats import binomtest
    from statsmodels.stats.proportion import proportion_confint

    successes = round(share * trials)
    low, high = wilson_interval(successes, trials)
    scipys = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert (low, high) == pytest.approx((scipys.low, scipys.high), abs=1e-9)
    theirs = proportion_confint(successes, trials, alpha=0.05, method="wilson")
    assert (low, high) == pytest.approx(theirs, abs=1e-9)
    assert 0 <= low <= successes / trials <= high <= 1


def test_what_is_counted_by_class() -> None:
    random = np.random.default_rng(3)
    reference, candidate = random.normal(size=(2, 500, 4)).astype(np.float32)
    labels = random.integers(0, 4, 500).astype(np.int32)
    candidate[7] = np.nan
    found = compare(reference, candidate, labels, ["a", "b", "c", "d"])
    for number, one in enumerate(found.per_class):
        assert one.name == "abcd"[number]
        assert one.num_samples == (labels == number).sum()
        right = [
            candidate[i].argmax() == number for i in np.flatnonzero(labels == number) if i != 7
        ]
        assert one.candidate_right == sum(right)
    matrix = np.array(found.confusion)
    assert matrix.sum() == 499  # the image answered with NaN is in no column
    assert matrix.trace() == found.candidate_accuracy * 500
    assert found.confusion[2][1] == sum(
        labels[i] == 2 and candidate[i].argmax() == 1 for i in range(500) if i != 7
    )


def test_confidence_is_the_softmax_of_the_winner() -> None:
    from scipy.special import softmax

    random = np.random.default_rng(4)
    reference, candidate = random.normal(scale=30, size=(2, 300, 10)).astype(np.float32)
    found = compare(reference, candidate)
    was, now = (softmax(one.astype(float), axis=1).max(axis=1) for one in (reference, candidate))
    assert found.reference_confidence == pytest.approx(was.mean())
    assert found.candidate_confidence == pytest.approx(now.mean())
    assert found.confidence_drift == pytest.approx(np.abs(now - was).mean())
    for flip in found.flips:
        assert flip.was_confidence == pytest.approx(was[flip.index])
        assert flip.confidence == pytest.approx(now[flip.index])
    # Answers that are probabilities already are not squashed once more.
    likely = softmax(reference, axis=1)
    assert compare(likely, likely).reference_confidence == pytest.approx(likely.max(axis=1).mean())
