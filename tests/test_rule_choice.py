"""Tests of the choice of a preprocessing by the accuracy on labelled images."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lenet_edge.artifacts.preprocessing import MNIST, PIXELS, SIGNED, UNIT, Preprocessing
from lenet_edge.rule_choice import RuleComparison, candidates, compare_rules, near_chance

ASSUMED = dataclasses.replace(PIXELS, origin="assumed")
COUNT = 1000


def compare(
    accuracies: dict[Preprocessing, float], usual: Preprocessing = ASSUMED
) -> RuleComparison:
    """Compare rules on a model that is right on the given shares of ten classes, on 0.1 else.

    Images count from 0, so that a rule of less accuracy is wrong on further images.
    """
    images = np.arange(COUNT)
    labels = (images % 10).astype(np.int32)
    by_values = {(rule.scale, rule.offset): share for rule, share in accuracies.items()}

    def predict(rule: Preprocessing, chosen: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        share = by_values.get((rule.scale, rule.offset), 0.1)
        right = (chosen * 7919) % COUNT < share * COUNT
        return np.where(right, chosen % 10, (chosen + 1) % 10)

    return compare_rules(predict, images, labels, 10, usual, candidates(1), "images")


@pytest.mark.parametrize(
    ("accuracies", "expected", "origin"),
    [
        ({PIXELS: 0.907, UNIT: 0.939}, UNIT, "tested"),  # a network with ReLU, trained on x / 255
        ({PIXELS: 0.99, UNIT: 0.2}, PIXELS, "tested"),
        ({UNIT: 0.94, MNIST: 0.941}, UNIT, "tested"),  # equally good: the more usual one
        ({UNIT: 0.90, MNIST: 0.94}, MNIST, "tested"),
        ({SIGNED: 0.95, UNIT: 0.5}, SIGNED, "tested"),
        ({PIXELS: 0.932, UNIT: 0.934}, PIXELS, "assumed"),  # tanh: no difference, so a question
        ({PIXELS: 1.0, UNIT: 1.0, SIGNED: 1.0}, PIXELS, "assumed"),
        ({}, PIXELS, "assumed"),  # about chance
    ],
)
def test_a_rule_must_be_clearly_better(
    accuracies: dict[Preprocessing, float], expected: Preprocessing, origin: str
) -> None:
    tested = compare(accuracies)
    assert (tested.rule.scale, tested.rule.offset) == (expected.scale, expected.offset)
    assert tested.rule.origin == origin
    assert tested.fits == bool(accuracies)
    assert "it is right on" in tested.summary


def test_a_rule_with_a_source_is_replaced_only_by_a_much_better_one() -> None:
    inferred = dataclasses.replace(UNIT, origin="inferred")
    assert compare({UNIT: 0.90, PIXELS: 0.915}, inferred).rule is inferred
    assert compare({UNIT: 0.90, PIXELS: 0.95}, inferred).rule.scale == PIXELS.scale


@pytest.mark.parametrize(
    ("accuracy", "classes", "count", "expected"),
    [(0.1, 10, 1000, True), (0.06, 10, 500, True), (0.5, 10, 100, False), (0.55, 2, 100, True),
     (0.9, 2, 100, False)],
)  # fmt: skip
def test_near_chance(accuracy: float, classes: int, count: int, expected: bool) -> None:
    assert near_chance(accuracy, classes, count) is expected
