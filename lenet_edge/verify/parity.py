"""Comparison of the logits of a candidate with those of the reference, image by image."""

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

MAX_CONFUSION_CLASSES = 100  # with more classes, the matrix would dominate the result file


def compare_logits(
    reference: Logits,
    candidate: Logits,
    labels: npt.NDArray[np.int32] | None = None,
    class_names: Sequence[str] = (),
) -> dict[str, Any]:
    """Compare the logits of two models for the same images.

    Args:
        reference: the logits of the reference, float32 of shape (N, classes).
        candidate: the logits of the candidate, of the same shape. If a logit of an image is not
            finite, the prediction counts as wrong and the image does not count in the errors.
        labels: the true classes, int32 of shape (N,). Without labels the report has no accuracy.
        class_names: the names in the order of the classes; by default the numbers of the classes.

    Returns:
        Fields of a `ParityReport`.

    Raises:
        DataError: the shapes differ, the reference is not finite, or a label is out of range.
    """
    if reference.shape != candidate.shape:
        raise DataError(
            f"the reference's logits have shape {reference.shape} and the file's"
            f" {candidate.shape}; compare models with the same classes, on the same images"
        )
    if not np.isfinite(reference).all():
        raise DataError("logits of the reference are NaN or infinite; use another reference")
    finite = np.isfinite(candidate).all(axis=1)
    was = reference.argmax(axis=1)
    now = np.where(finite, candidate.argmax(axis=1), -1)
    errors = np.abs(candidate[finite].astype(np.float64) - reference[finite])
    was_confidence, now_confidence = _confidence(reference), _confidence(candidate[finite])
    confidence = np.full(len(candidate), np.nan)
    confidence[finite] = now_confidence
    flips = tuple(
        Flip(
            index=int(i),
            label=None if labels is None else int(labels[i]),
            was=int(was[i]),
            now=int(now[i]),
            was_confidence=float(was_confidence[i]),
            confidence=float(confidence[i]) if finite[i] else None,
        )
        for i in np.flatnonzero(was != now)
    )
    fields = {
        "num_samples": len(reference),
        "top1_agreement": float((was == now).mean()),
        "flips": flips,
        "max_abs_error": float(errors.max(initial=0.0)),
        "mean_abs_error": float(errors.mean()) if errors.size else 0.0,
        "non_finite": int((~finite).sum()),
        "reference_confidence": float(was_confidence.mean()),
        "candidate_confidence": float(now_confidence.mean()) if now_confidence.size else None,
        "confidence_drift": (
            float(np.abs(now_confidence - was_confidence[finite]).mean())
            if now_confidence.size
            else None
        ),
    }
    return {**fields, **_accuracy_fields(was, now, labels, reference.shape[1], class_names)}


def _accuracy_fields(
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
        raise DataError(
            f"{len(was)} images but {len(labels)} labels; give one label for each image"
        )
    if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
        raise DataError(
            f"labels lie in {labels.min()}..{labels.max()} and the model has {num_classes}"
            f" classes; they must lie in 0..{num_classes - 1}"
        )
    was_right, now_right = was == labels, now == labels
    fields: dict[str, Any] = {
        "reference_accuracy": float(was_right.mean()),
        "candidate_accuracy": float(now_right.mean()),
        # Subtract numbers of images, because a difference of percentages has rounding errors.
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
        fields["confusion"] = tuple(map(tuple, counts.tolist()))
    return fields


def _confidence(logits: Logits) -> npt.NDArray[np.float64]:
    """Compute the probability of the predicted class of each image."""
    highest: npt.NDArray[np.float64] = probabilities(logits).max(axis=1, initial=0)
    return highest


def mcnemar_p(only_first_right: int, only_second_right: int) -> float:
    """Compute the two-sided p-value of McNemar's exact test for two classifiers.

    Args:
        only_first_right: number of images that only the first classifier predicts correctly.
        only_second_right: number of images that only the second predicts correctly.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated
    proportions or percentages", Psychometrika 12, 1947; the exact (binomial) form.
    """
    discordant = only_first_right + only_second_right
    tail = sum(
        math.comb(discordant, k) for k in range(min(only_first_right, only_second_right) + 1)
    )
    return min(1.0, 2 * tail / (1 << discordant))
