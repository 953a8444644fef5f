"""Compare the logits of a candidate with those of the float model, image by image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.classifier_io import probabilities
from lenet_edge.errors import DataError
from lenet_edge.results.parity_report import ClassCount, Flip
from lenet_edge.target import Logits

MAX_CONFUSION_CLASSES = 100  # above, the matrix would be most of the result file


def compare_logits(
    reference: Logits,
    candidate: Logits,
    labels: npt.NDArray[np.int32] | None = None,
    class_names: Sequence[str] = (),
) -> dict[str, Any]:
    """Compare two models' logits for the same images; return the fields of a `ParityReport`.

    Args:
        reference: the float model's, of shape (N, classes).
        candidate: the exported file's, of the same shape. An image with a logit that is not a
            finite number counts as wrong, and its error is left out of the mean and the largest.
        labels: the true classes, of shape (N,); without them nothing is said of accuracy.
        class_names: in the order of the classes; their numbers if left out.

    Raises:
        DataError: the shapes do not fit, or a label names no class.
    """
    if reference.shape != candidate.shape:
        raise DataError(
            f"the reference's logits have shape {reference.shape} and the file's"
            f" {candidate.shape}; they belong to different models or data sets"
        )
    if not np.isfinite(reference).all():
        raise DataError("the reference answers with NaN or infinity; use another one")
    finite = np.isfinite(candidate).all(axis=1)
    was = reference.argmax(axis=1)
    now = np.where(finite, candidate.argmax(axis=1), -1)
    errors = np.abs(candidate[finite].astype(np.float64) - reference[finite])
    was_sure, now_sure = _confidence(reference), _confidence(candidate[finite])
    sure = np.full(len(candidate), np.nan)
    sure[finite] = now_sure
    flips = tuple(
        Flip(
            index=int(i),
            label=None if labels is None else int(labels[i]),
            was=int(was[i]),
            now=int(now[i]),
            was_confidence=float(was_sure[i]),
            confidence=float(sure[i]) if finite[i] else None,
        )
        for i in np.flatnonzero(was != now)
    )
    found = {
        "num_samples": len(reference),
        "top1_agreement": float((was == now).mean()),
        "flips": flips,
        "max_abs_error": float(errors.max(initial=0.0)),
        "mean_abs_error": float(errors.mean()) if errors.size else 0.0,
        "non_finite": int((~finite).sum()),
        "reference_confidence": float(was_sure.mean()),
        "candidate_confidence": float(now_sure.mean()) if now_sure.size else None,
        "confidence_drift": (
            float(np.abs(now_sure - was_sure[finite]).mean()) if now_sure.size else None
        ),
    }
    return {**found, **_against_labels(was, now, labels, reference.shape[1], class_names)}


def _against_labels(
    was: npt.NDArray[Any],
    now: npt.NDArray[Any],
    labels: npt.NDArray[np.int32] | None,
    num_classes: int,
    class_names: Sequence[str],
) -> dict[str, Any]:
    if labels is None:
        return dict.fromkeys(
            ("reference_accuracy", "candidate_accuracy", "accuracy_drop", "mcnemar_p")
        )
    if len(was) != len(labels):
        raise DataError(f"{len(was)} answers for {len(labels)} labels; use the same data set")
    if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
        raise DataError(
            f"labels lie in {labels.min()}..{labels.max()} and the model has {num_classes}"
            " classes; they must lie in 0.." + str(num_classes - 1)
        )
    was_right, now_right = was == labels, now == labels
    found: dict[str, Any] = {
        "reference_accuracy": float(was_right.mean()),
        "candidate_accuracy": float(now_right.mean()),
        # Counted in images first: 9846 - 9846 is 0, where 98.46 - 98.46 may be 1e-14.
        "accuracy_drop": 100 * int(was_right.sum() - now_right.sum()) / len(labels),
        "mcnemar_p": mcnemar_p(
            only_first_right=int((was_right & ~now_right).sum()),
            only_second_right=int((~was_right & now_right).sum()),
        ),
        "per_class": tuple(
            ClassCount(
                class_names[number] if number < len(class_names) else str(number),
                int((labels == number).sum()),
                int(was_right[labels == number].sum()),
                int(now_right[labels == number].sum()),
            )
            for number in range(num_classes)
        ),
    }
    if num_classes <= MAX_CONFUSION_CLASSES:
        counts = np.zeros((num_classes, num_classes), int)
        np.add.at(counts, (labels[now >= 0], now[now >= 0]), 1)
        found["confusion"] = tuple(map(tuple, counts.tolist()))
    return found


def _confidence(logits: Logits) -> npt.NDArray[np.float64]:
    """Return the probability of each image's winning class."""
    highest: npt.NDArray[np.float64] = probabilities(logits).max(axis=1, initial=0)
    return highest


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
