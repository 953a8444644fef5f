"""Compare the logits of a candidate with those of the float model, image by image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lenet_edge.errors import DataError
from lenet_edge.results import Flip
from lenet_edge.target import Logits


@dataclass(frozen=True)
class Comparison:
    """The numbers of a `ParityReport`, before it is known what they were measured on."""

    num_samples: int
    reference_accuracy: float
    candidate_accuracy: float
    accuracy_drop: float
    top1_agreement: float
    flips: tuple[Flip, ...]
    mcnemar_p: float
    max_abs_error: float
    mean_abs_error: float
    non_finite: int


def compare(reference: Logits, candidate: Logits, labels: npt.NDArray[np.int32]) -> Comparison:
    """Compare two models' logits for the same labelled images.

    Args:
        reference: the float model's, of shape (N, classes).
        candidate: the exported file's, of the same shape. An image with a logit that is not a
            finite number counts as wrong, and its error is left out of the mean and the largest.
        labels: the true classes, of shape (N,).

    Raises:
        DataError: the shapes do not fit.
    """
    if reference.shape != candidate.shape:
        raise DataError(
            f"the float model's logits have shape {reference.shape} and the file's"
            f" {candidate.shape}; they belong to different models or data sets"
        )
    if len(reference) != len(labels):
        raise DataError(f"{len(reference)} answers for {len(labels)} labels; use the same data set")
    finite = np.isfinite(candidate).all(axis=1)
    was = reference.argmax(axis=1)
    now = np.where(finite, candidate.argmax(axis=1), -1)
    was_right, now_right = was == labels, now == labels
    errors = np.abs(candidate[finite].astype(np.float64) - reference[finite])
    flips = tuple(
        Flip(int(i), int(labels[i]), int(was[i]), int(now[i])) for i in np.flatnonzero(was != now)
    )
    return Comparison(
        num_samples=len(labels),
        reference_accuracy=float(was_right.mean()),
        candidate_accuracy=float(now_right.mean()),
        # Counted in images first: 9846 - 9846 is 0, where 98.46 - 98.46 may be 1e-14.
        accuracy_drop=100 * int(was_right.sum() - now_right.sum()) / len(labels),
        top1_agreement=float((was == now).mean()),
        flips=flips,
        mcnemar_p=mcnemar_p(
            only_first_right=int((was_right & ~now_right).sum()),
            only_second_right=int((~was_right & now_right).sum()),
        ),
        max_abs_error=float(errors.max(initial=0.0)),
        mean_abs_error=float(errors.mean()) if errors.size else 0.0,
        non_finite=int((~finite).sum()),
    )


def mcnemar_p(only_first_right: int, only_second_right: int) -> float:
    """Return the exact two-sided p-value that two classifiers on the same images are as good.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated
    proportions or percentages", Psychometrika 12, 1947; the exact (binomial) form.
    """
    discordant = only_first_right + only_second_right
    tail = sum(
        math.comb(discordant, k) for k in range(min(only_first_right, only_second_right) + 1)
    )
    return min(1.0, 2 * tail / (1 << discordant))
