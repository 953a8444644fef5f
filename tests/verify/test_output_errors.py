"""Pairs of tensors, layouts, errors of outputs, and the verdict on each."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from lenet_edge.results.parity_report import Bounds, OutputReport
from lenet_edge.verify.output_errors import OutputErrors
from lenet_edge.verify.tensor_pairs import (
    FIRST,
    FLAT,
    LAST,
    choices,
    layouts,
    pair_tensors,
    rearrange,
)
from lenet_edge.verify.verdict import bounds_for_output, judge_output

BOXES, SCORES, COUNT = (1, 10, 4), (1, 10, 7), (1,)


@pytest.mark.parametrize(
    ("reference", "candidate", "shapes", "expected"),
    [
        # The order differs, and the names decide.
        (["a", "b"], ["b", "a"], ([BOXES, BOXES], [BOXES, BOXES]), "0-1 name, 1-0 name"),
        # Converters rename outputs; the shapes decide, in any layout.
        (["a", "b"], ["x", "y"], ([BOXES, SCORES], [(1, 7, 10), BOXES]), "0-1 shape, 1-0 shape"),
        (["a", "b"], ["x", "y"], ([BOXES, BOXES], [BOXES, BOXES]), "0-0 order, 1-1 order"),
        (["a", "b", "n"], ["x", "y", "n"], ([BOXES, BOXES, COUNT], [BOXES, BOXES, COUNT]),
         "0-0 order, 1-1 order, 2-2 name"),
        (["a", "b"], ["a"], ([BOXES, SCORES], [BOXES]), "0-0 name"),
        (["a"], ["x"], ([BOXES], [(1, 40)]), "0-0 order"),
    ],
)  # fmt: skip
def test_pairs(reference, candidate, shapes, expected) -> None:  # type: ignore[no-untyped-def]
    pairs = pair_tensors([{name} for name in reference], [{name} for name in candidate], *shapes)
    text = ", ".join(f"{pair.reference}-{pair.candidate} {pair.rule}" for pair in pairs)
    assert text == expected


@pytest.mark.parametrize(
    ("shape", "wanted", "ways"),
    [
        ((2, 3, 8, 9), (2, 3, 8, 9), [""]),
        ((2, 3, 8, 9), (None, 8, 9, 3), [LAST]),
        ((2, 8, 9, 3), (2, 3, 8, 9), [FIRST]),
        ((1, 3, 3, 3), (1, None, None, None), ["", LAST, FIRST]),
        ((1, 5, 7), (1, 7, 5), [LAST]),
        ((1, 28, 28, 1), (1, 784), [FLAT]),
        ((1, 10, 1, 1), (1, 10), [FLAT]),
        ((1, 3, 8, 9), (1, 9, 8, 3), []),
        ((), (), [""]),
    ],
)  # fmt: skip
def test_layouts(shape, wanted, ways) -> None:  # type: ignore[no-untyped-def]
    assert layouts(shape, wanted) == ways
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    for way in ways:
        turned = rearrange(values, way, wanted)
        assert all(size in (None, own) for size, own in zip(wanted, turned.shape, strict=True))
    if ways == [LAST] and len(shape) == 4:
        assert (rearrange(turned, FIRST, shape) == values).all()


def test_choices_of_layouts() -> None:
    assert list(choices([[""], [LAST]])) == [("", LAST)]
    assert list(choices([["", LAST, FIRST], [""]])) == [("", ""), (LAST, ""), (FIRST, "")]


def measure(expected: object, actual: object, **facts: bool) -> OutputErrors:
    errors = OutputErrors(**facts)
    errors.add(np.asarray(expected), np.asarray(actual))
    return errors


def test_figures_of_real_values() -> None:
    """Each figure against its definition."""
    random = np.random.default_rng(0)
    expected, noise = random.normal(size=(50, 3, 4)), random.normal(size=(50, 3, 4)) / 100
    errors = OutputErrors()
    for part in (slice(20), slice(20, 50)):
        errors.add(expected[part], (expected + noise)[part])
    assert errors.worst == pytest.approx(abs(noise).max())
    assert errors.mean == pytest.approx(abs(noise).mean())
    ratio = 10 * np.log10((expected**2).sum() / (noise**2).sum())
    assert errors.snr_db == pytest.approx(ratio)
    left, right = expected.ravel(), (expected + noise).ravel()
    cosine = left @ right / np.linalg.norm(left) / np.linalg.norm(right)
    assert errors.cosine == pytest.approx(cosine)
    assert errors.agreement is None


def test_an_output_of_probabilities_is_a_classifier() -> None:
    chances = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]], np.float32)
    other = np.array([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1]], np.float32)
    assert measure(chances, other).agreement == (1, 2)
    assert measure(chances * 3, other).agreement is None  # positions of boxes
    assert measure(chances * 3, other, has_scores=True).agreement == (1, 2)
    assert measure([3, 4, 5], [3, 4, 4], is_integer=True).agreement == (2, 3)


def test_values_that_are_not_finite() -> None:
    """A mask of infinities is no error; a NaN in one file is."""
    mask = np.array([-np.inf, 1.0, np.nan])
    assert measure(mask, mask).non_finite == 0
    assert measure(mask, mask).noise == 0
    errors = measure(mask, np.array([-np.inf, np.nan, np.nan]))
    assert errors.non_finite == 1
    verdict, (reason,) = judge_output(errors, Bounds(), (), False)
    assert (verdict, reason) == ("fail", "1 values are NaN or infinite in one file only")


ROWS = np.eye(4)[np.arange(1000) % 4]


@pytest.mark.parametrize(
    ("expected", "factor", "settings", "is_random", "reason"),
    [
        (np.ones(100), 1.0, {}, False, None),
        (np.ones(100), 1.0005, {}, False, None),
        (np.ones(100), 1.01, {}, False, "the signal-to-noise ratio is 40.0 dB, less than the 60"),
        (np.ones(100), 1.01, {"min_snr_db": 39}, False, None),
        (np.ones(100), 1.01, {"outputs": {"y": {"min_snr_db": 39}}}, False, None),
        (np.ones(100), 1.01, {"outputs": {"z": {"min_snr_db": 39}}}, False, "the signal-to-noise"),
        (np.ones(100), -1.0, {"min_snr_db": -10, "min_cosine": 0}, False, "the cosine is -1.000"),
        (np.ones(100), 1.0005, {"max_abs_error": 1e-4}, False, "a value is off by 0.0005"),
        (np.zeros(100), None, {}, False, "the reference is 0 everywhere, and it is off by 1"),
        (ROWS, "swap", {"min_snr_db": 0}, False, "99.00 % of the classes are equal, less than"),
        (ROWS, "swap", {"min_snr_db": 0}, True, None),  # close calls of random inputs
        (ROWS, "swap", {"min_snr_db": 0, "min_agreement": 99.5}, True, "99.00 % of the classes"),
    ],
)
def test_verdict_on_an_output(expected, factor, settings, is_random, reason) -> None:  # type: ignore[no-untyped-def]
    actual = expected + 1 if factor is None else expected.copy()
    if factor == "swap":
        actual[:10] = actual[:10, ::-1]
    elif factor is not None:
        actual = expected * factor
    bounds, chosen = bounds_for_output("float32", settings, ("y",))
    verdict, reasons = judge_output(measure(expected, actual), bounds, chosen, is_random)
    assert verdict == ("pass" if reason is None else "fail")
    assert [text[: len(reason or "")] for text in reasons] == ([reason] if reason else [])


def test_integers_must_be_equal() -> None:
    bounds, chosen = bounds_for_output("float32", {}, ("classes",))
    wanted = np.arange(1000)
    same, wrong = measure(wanted, wanted, is_integer=True), wanted.copy()
    wrong[:20] = 0
    assert judge_output(same, bounds, chosen, True) == ("pass", ())
    verdict, (reason,) = judge_output(measure(wanted, wrong, is_integer=True), bounds, chosen, True)
    assert verdict == "fail"
    assert reason.startswith("98.10 % of the integers are equal, less than the 99.9")


def test_report_in_json() -> None:
    report = OutputReport("y", "Y", "order", LAST, 10, 0.1, 0.01, 30.0, 0.99, None, 0,
                          Bounds(min_snr_db=20), "fail", ("it is wrong",))  # fmt: skip
    assert OutputReport.from_json(json.loads(json.dumps(asdict(report)))) == report
