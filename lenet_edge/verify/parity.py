"""Comparison of the outputs of a candidate with those of the reference, image by image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.head import Head, head_of_values, read_outputs, resolve_head, threshold
from lenet_edge.artifacts.head import class_names as names_of_classes
from lenet_edge.errors import DataError
from lenet_edge.results.parity_report import ClassCount, Flip
from lenet_edge.results.stats import chance_agreement, mcnemar_p
from lenet_edge.target import Logits

MAX_CONFUSION_CLASSES = 100  # with more classes, the matrix would dominate the result file


def compare_logits(
    reference: Logits,
    candidate: Logits,
    labels: npt.NDArray[np.int32] | None = None,
    class_names: Sequence[str] = (),
    head: Head | None = None,
    candidate_head: Head | None = None,
) -> dict[str, Any]:
    """Compare the outputs of two models for the same images.

    Args:
        reference: the outputs of the reference, float32 of shape (N, outputs).
        candidate: the outputs of the candidate, of the same shape. If an output of an image is not
            finite, the prediction counts as wrong and the image does not count in the errors.
        labels: the true classes, int32 of shape (N,). Without labels the report has no accuracy.
        class_names: the names in the order of the classes; by default the numbers of the classes.
        head: the meaning of the reference's outputs, if its file states it.
        candidate_head: the meaning of the candidate's outputs, if its file states it.

    Returns:
        Fields of a `ParityReport`. Models whose outputs are no classes are compared by their
        errors alone: there is no agreement and no accuracy.

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
    head = resolve_head(head, reference, labels)
    expected, actual = reference[finite].astype(np.float64), candidate[finite].astype(np.float64)
    fields: dict[str, Any] = {
        "num_samples": len(reference),
        "head": head.value,
        "non_finite": int((~finite).sum()),
    }
    if head is Head.VALUES:
        without_classes = {"top1_agreement": None, "flips": (), "chance_agreement": None}
        errors = _error_fields(expected, actual)
        return {**fields, **without_classes, **errors, **_accuracy_fields(labels=None)}
    candidate_head = _candidate_head(head, candidate_head, candidate[finite])
    was, was_chances = read_outputs(reference, head)
    now, now_chances = np.full(len(candidate), -1), np.full(was_chances.shape, np.nan)
    now[finite], now_chances[finite] = read_outputs(candidate[finite], candidate_head)
    if candidate_head is not head:
        # Scores and probabilities have no common unit, so the probabilities are compared.
        expected, actual = was_chances[finite], now_chances[finite]
    changed = was != now
    if head is Head.SIGMOIDS:
        # Each class applies or not. Two sets differ if one class does.
        limit = threshold(head)
        toggled = (reference >= limit) != (candidate >= limit)
        changed = toggled.any(axis=1) | ~finite
        sure = np.where(toggled, np.abs(candidate - limit), -1.0)
        shown = np.where(finite & changed & (was == now), sure.argmax(axis=1), now)
    else:
        shown = now
    was_confidence = was_chances.max(axis=1, initial=0)
    confidence = now_chances.max(axis=1, initial=0)
    known = confidence[finite]
    fields |= {
        "top1_agreement": float((~changed).mean()),
        "chance_agreement": chance_agreement(was, now, was_chances.shape[1]),
        "flips": tuple(
            Flip(
                index=int(i),
                label=None if labels is None else int(labels[i]),
                was=int(was[i]),
                now=int(shown[i]),
                was_confidence=float(was_confidence[i]),
                confidence=float(now_chances[i, shown[i]]) if finite[i] else None,
            )
            for i in np.flatnonzero(changed)
        ),
        **_error_fields(expected, actual),
        "reference_confidence": float(was_confidence.mean()),
        "candidate_confidence": float(known.mean()) if known.size else None,
        "confidence_drift": (
            float(np.abs(known - was_confidence[finite]).mean()) if known.size else None
        ),
    }
    if (
        head is Head.SIGMOIDS
        and labels is not None
        and labels.max(initial=0) >= len(was_chances[0])
    ):
        labels = None  # these labels number sets of classes, not the outputs
    count = was_chances.shape[1]
    names = names_of_classes(class_names, head, count)
    return {**fields, **_accuracy_fields(was, now, labels, count, names)}


def _candidate_head(head: Head, stated: Head | None, values: Logits) -> Head:
    """Return the head of a candidate: that of its reference, but with or without probabilities."""
    if head.is_binary:
        return stated if stated is not None and stated.is_binary else head
    if head is Head.SIGMOIDS:
        return head
    if stated is Head.SOFTMAX:
        return stated
    shows_probabilities = values.size > 0 and head_of_values(values) is Head.SOFTMAX
    return Head.SOFTMAX if shows_probabilities else Head.LOGITS


def _error_fields(
    expected: npt.NDArray[np.float64], actual: npt.NDArray[np.float64]
) -> dict[str, Any]:
    errors = np.abs(actual - expected)
    signal, noise = float((expected**2).sum()), float((errors**2).sum())
    return {
        "max_abs_error": float(errors.max(initial=0.0)),
        "mean_abs_error": float(errors.mean()) if errors.size else 0.0,
        "snr_db": 10 * math.log10(signal / noise) if signal > 0 and noise > 0 else None,
    }


def _accuracy_fields(
    was: npt.NDArray[Any] | None = None,
    now: npt.NDArray[Any] | None = None,
    labels: npt.NDArray[np.int32] | None = None,
    num_classes: int = 0,
    class_names: Sequence[str] = (),
) -> dict[str, Any]:
    if labels is None or was is None or now is None:
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
