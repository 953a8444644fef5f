"""Every file on every target, on all test images, against the float model it was made from."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge import worker
from lenet_edge.data.test_set import test_set
from lenet_edge.errors import LenetEdgeError
from lenet_edge.reference import reference_for
from lenet_edge.results import ParityReport, Skipped
from lenet_edge.selection import Pair
from lenet_edge.target import Logits
from lenet_edge.verify.parity import compare

DEFAULT_MAX_DROP = 0.1  # percentage points


def verify(
    pairs: Sequence[Pair],
    max_accuracy_drop: float = DEFAULT_MAX_DROP,
    num_threads: int = 1,
    report: Callable[[str], None] = lambda what: None,
) -> tuple[list[ParityReport], list[Skipped]]:
    """Return a report for each file on each target, and what could not run, with the reason.

    Args:
        pairs: what to run, each in a process of its own.
        max_accuracy_drop: percentage points of accuracy that a file may lose and still pass.
        num_threads: threads for one inference.
        report: called with a name as each pair is done.

    Raises:
        ModelFileError: the recorded answers of the float model are missing or belong to another.
    """
    reports, skipped = [], []
    for pair in pairs:
        reference = reference_for(pair.artifact)
        try:
            data = test_set(reference, pair.artifact.labels)
            logits = _logits(pair, data.images, num_threads)
        except LenetEdgeError as error:
            skipped.append(Skipped(pair.target.name, str(error), pair.artifact.name))
            report(f"{pair.artifact.name} on {pair.target.name}: {error}")
            continue
        comparison = compare(reference.logits, logits, data.labels)
        reports.append(
            ParityReport(
                reference=f"checkpoint {reference.checkpoint_sha256[:12]}",
                candidate=pair.artifact.name,
                candidate_sha256=pair.artifact.sha256,
                target=pair.target.name,
                tolerance=max_accuracy_drop,
                passed=(
                    comparison.accuracy_drop <= max_accuracy_drop and comparison.non_finite == 0
                ),
                **{
                    field.name: getattr(comparison, field.name)
                    for field in dataclasses.fields(comparison)
                },
            )
        )
        report(f"{pair.artifact.name} on {pair.target.name}")
    return reports, skipped


def _logits(pair: Pair, images: npt.NDArray[Any], num_threads: int) -> Logits:
    with tempfile.TemporaryDirectory(prefix="lenet-edge-") as folder:
        given, output = Path(folder, "images.npy"), Path(folder, "logits.npy")
        np.save(given, images)
        worker.call(
            "verify.infer:record_logits",
            artifact=pair.artifact.to_json(),
            target=pair.target.name,
            num_threads=num_threads,
            images=str(given),
            output=str(output),
        )
        logits: Logits = np.load(output, allow_pickle=False)
        return logits
