"""Tests of the advice on too few images, against the rule that decides."""

from __future__ import annotations

import dataclasses
import re

from hypothesis import given
from hypothesis import strategies as st

from lenet_edge.results.enough_images import other_reasons, too_few_images
from lenet_edge.results.parity_report import Bounds, ParityReport
from lenet_edge.verify.verdict import judge_parity
from tests.verify.test_verdict import comparison

LIMITS = st.sampled_from([None, 0.05, 0.1, 0.3, 1.0, 3.0, 7.0])


def judged(count: int, wrong: int, bounds: Bounds, labelled: bool = True) -> ParityReport:
    facts = comparison(count, wrong)
    if not labelled:
        facts |= {"accuracy_drop": None, "mcnemar_p": None, "per_class": ()}
    verdict, reasons = judge_parity(facts, bounds)
    return ParityReport(
        reference="a", candidate="b", candidate_sha256="", target="t", verdict=verdict,
        reasons=reasons, bounds=bounds, **facts,
    )  # fmt: skip


@given(st.integers(1, 900), st.integers(0, 3), LIMITS, LIMITS, st.booleans())
def test_the_advice_is_what_decides_and_not_one_image_more(
    count: int, wrong: int, drop: float | None, disagreement: float | None, labelled: bool
) -> None:
    bounds = Bounds(drop, None if disagreement is None else 100 - disagreement)
    report = judged(count, min(wrong, count), bounds, labelled)
    few = too_few_images([report])
    assert (few is None) == (report.verdict != "inconclusive")
    if few is None:
        return
    assert other_reasons(report) == ()
    flips = len(report.flips)
    enough = count + few.more
    assert judged(enough, flips, bounds, labelled).verdict != "inconclusive"
    assert judged(enough - 1, max(flips, 1), bounds, labelled).verdict != "pass"
    if few.more_if_unchanged is not None:
        assert judged(count + few.more_if_unchanged, 0, bounds, labelled).verdict == "pass"
        assert judged(count + few.more_if_unchanged - 1, 0, bounds, labelled).verdict != "pass"
    looser = {
        name.replace("-", "_"): float(value)
        for name, value in re.findall(r"--([a-z-]+) ([\d.]+\d|\d)", str(few))
    }
    changed = dataclasses.replace(bounds, **looser)
    assert judged(count, flips, changed, labelled).verdict != "inconclusive"


def test_one_sentence_for_all_pairs() -> None:
    pairs = [
        judged(200, 1, Bounds(0.1, 99)),
        judged(200, 0, Bounds(0.1, 99.9)),
        judged(200, 0, Bounds(1, 99)),
        judged(9000, 9000, Bounds(1, 99)),
    ]
    assert str(too_few_images(pairs)) == (
        "200 images are too few to decide a drop of 0.1 points: 800 more are needed, or a looser"
        " bound of verify: --max-accuracy-drop 0.5"
    )
    assert too_few_images(pairs[2:]) is None
    facts = too_few_images(pairs[1:])
    assert facts is not None
    assert facts.to_json()["more_if_unchanged"] == 100
