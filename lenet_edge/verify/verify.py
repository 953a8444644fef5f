"""Verification of artifacts on targets, against their float model or another file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.artifacts.stated_input import question
from lenet_edge.errors import DataError, LenetEdgeError
from lenet_edge.results.result_file import ParityReport, Skipped
from lenet_edge.selection import Pair
from lenet_edge.target import Delegation, Logits, Target
from lenet_edge.verify import diagnosis
from lenet_edge.verify.expected import (
    Expected,
    expected_from_reference,
    infer_in_worker,
    is_open,
)
from lenet_edge.verify.parity import compare_logits
from lenet_edge.verify.verdict import applied_precision, bounds_for, judge_parity

# An emulated core without a floating-point unit takes minutes for 10,000 images of a float file.
# 10,000 images of MNIST take 12 minutes over a line of 115,200 baud.
_TIMEOUT_FACTORS = {"instructions": 6, "cycles": 36}
OnReport = Callable[[ParityReport, Expected, Logits], None]


def verify(
    pairs: Sequence[Pair],
    settings: Mapping[str, Any] | None = None,
    num_threads: int = 1,
    on_progress: Callable[[str], None] = lambda line: None,
    expected: Expected | None = None,
    on_report: OnReport = lambda report, expected, logits: None,
    num_images: int | None = None,
    timeout_s: float = 300.0,
    python_for: Callable[[Pair], Path | None] = lambda pair: None,
) -> tuple[list[ParityReport], list[Skipped]]:
    """Verify pairs, each in its own worker.

    Args:
        pairs: the artifacts with their targets.
        settings: bounds that override the defaults; see `verdict.bounds_for`.
        num_threads: threads for one inference.
        on_progress: called with a line of text after each pair.
        expected: the logits to compare with. None means the reference of each artifact.
        on_report: called with each report, the expected logits, and the logits of the artifact.
        num_images: the number of images, from the first; None runs all.
        timeout_s: time limit of a pair in seconds.
        python_for: returns the Python interpreter for a pair; None means this interpreter.

    Returns:
        A report for each pair that ran, and the pairs that could not run with the reason.

    Raises:
        ModelFileError: the reference of an artifact is missing or belongs to another checkpoint.
        DataError: an artifact and its expected logits have different classes.
    """
    reports, skipped = [], []
    for pair in pairs:
        wanted = (expected or expected_from_reference(pair.artifact)).first(num_images)
        where = f"{pair.artifact.name} on {pair.target.name}"
        limit_s = timeout_s * _TIMEOUT_FACTORS.get(pair.target.measures, 1)
        try:
            logits, facts = infer_in_worker(
                pair, wanted.images, num_threads, timeout_s=limit_s, python=python_for(pair)
            )
        except LenetEdgeError as error:
            skipped.append(Skipped(pair.target.name, str(error), pair.artifact.name))
            on_progress(f"{where}: {error}")
            continue
        try:
            heads = wanted.head, pair.artifact.stated_head
            comparison = compare_logits(
                wanted.logits, logits, wanted.labels, wanted.class_names, *heads
            )
        except DataError as error:
            raise DataError(f"{pair.artifact.name} against {wanted.name}: {error}") from error
        delegation = Delegation.from_json(facts["delegation"])
        precision = applied_precision(pair.artifact.precision, delegation)
        bounds = bounds_for(precision, settings or {})
        verdict, reasons = judge_parity(comparison, bounds)
        asked = question(pair.artifact) if is_open(pair.artifact, wanted.images) else ""
        if asked or wanted.question:  # the images may be wrong, so neither verdict is certain
            verdict, reasons = "inconclusive", (asked or wanted.question, *reasons)
        report = ParityReport(
            reference=wanted.name,
            candidate=pair.artifact.name,
            candidate_sha256=pair.artifact.sha256,
            target=pair.target.name,
            verdict=verdict,
            reasons=reasons,
            bounds=bounds,
            diagnosis=diagnosis.diagnose(pair, wanted) if verdict == "fail" else None,
            delegation=delegation,
            **comparison,
        )
        on_report(report, wanted, logits)
        reports.append(report)
        on_progress(where)
    return reports, skipped


@worker.function
def verify_pair(
    artifact: dict[str, Any],
    target: dict[str, Any],
    settings: dict[str, Any],
    num_threads: int = 1,
    num_images: int | None = None,
    timeout_s: float = 300.0,
) -> dict[str, Any]:
    """Verify one artifact on one target.

    Args:
        artifact: the artifact, as `Artifact.to_json` returns it.
        target: the fields of the `Target`.
        settings: see `verify`, as for the following arguments.
        num_threads: threads for one inference.
        num_images: the number of images; None for all.
        timeout_s: the time limit in seconds.

    Returns:
        The JSON of the parity reports ("parity"), and the fields of each `Skipped` ("skipped").
    """
    pair = Pair(Artifact.from_json(artifact), Target.from_json(target))
    reports, skipped = verify(
        [pair], settings, num_threads, num_images=num_images, timeout_s=timeout_s
    )
    return {
        "parity": [report.to_json() for report in reports],
        "skipped": [dataclasses.asdict(pair) for pair in skipped],
    }
