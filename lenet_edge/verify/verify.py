"""Every file on every target against the float model it was made from, or another file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.errors import DataError, LenetEdgeError
from lenet_edge.results.result_file import ParityReport, Skipped
from lenet_edge.selection import Pair
from lenet_edge.target import Delegation, Logits, Target
from lenet_edge.verify import diagnosis
from lenet_edge.verify.expected import Expected, expected_from_reference, infer_in_worker
from lenet_edge.verify.parity import compare_logits
from lenet_edge.verify.verdict import bounds_for, judge_parity

OnReport = Callable[[ParityReport, Expected, Logits], None]


def verify(
    pairs: Sequence[Pair],
    settings: Mapping[str, Any] | None = None,
    num_threads: int = 1,
    report: Callable[[str], None] = lambda what: None,
    expected: Expected | None = None,
    on_report: OnReport = lambda found, expected, logits: None,
    num_images: int | None = None,
    timeout_s: float = 300.0,
    python_for: Callable[[Pair], Path | None] = lambda pair: None,
) -> tuple[list[ParityReport], list[Skipped]]:
    """Return a report for each file on each target, and what could not run, with the reason.

    Args:
        pairs: what to run, each in a process of its own.
        settings: bounds instead of the defaults; see `verdict.bounds_for`.
        num_threads: threads for one inference.
        report: called with a name as each pair is done.
        expected: what to compare with; None means each file's own recorded float model.
        on_report: called with each report, what it was held against, and the file's logits.
        num_images: how many to run, from the first on; all if left out.
        timeout_s: seconds until a pair is given up.
        python_for: the interpreter of another environment that a pair runs in, if any.

    Raises:
        ModelFileError: the recorded answers of the float model are missing or belong to another.
        DataError: a file and what it is held against have different classes.
    """
    reports, skipped = [], []
    for pair in pairs:
        wanted = (expected or expected_from_reference(pair.artifact)).first(num_images)
        where = f"{pair.artifact.name} on {pair.target.name}"
        try:
            logits, facts = infer_in_worker(
                pair, wanted.images, num_threads, timeout_s=timeout_s, python=python_for(pair)
            )
        except LenetEdgeError as error:
            skipped.append(Skipped(pair.target.name, str(error), pair.artifact.name))
            report(f"{where}: {error}")
            continue
        try:
            found = compare_logits(wanted.logits, logits, wanted.labels, wanted.class_names)
        except DataError as error:
            raise DataError(f"{pair.artifact.name} against {wanted.name}: {error}") from error
        delegation = Delegation.from_json(facts["delegation"])
        # What a device computes in may be less than what the file holds.
        less = delegation is not None and delegation.precision == "float16"
        precision = pair.artifact.precision
        bounds = bounds_for(
            "float16" if less and precision == "float32" else precision, settings or {}
        )
        verdict, reasons = judge_parity(found, bounds)
        one = ParityReport(
            reference=wanted.name,
            candidate=pair.artifact.name,
            candidate_sha256=pair.artifact.sha256,
            target=pair.target.name,
            verdict=verdict,
            reasons=reasons,
            bounds=bounds,
            diagnosis=diagnosis.diagnose(pair, wanted, found) if verdict == "fail" else None,
            delegation=delegation,
            **found,
        )
        on_report(one, wanted, logits)
        reports.append(one)
        report(where)
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
        settings: as in `verify`, and the rest too.
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
        "parity": [one.to_json() for one in reports],
        "skipped": [dataclasses.asdict(one) for one in skipped],
    }
