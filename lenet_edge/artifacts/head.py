"""Heads: the ways in which the outputs of a model state classes.

`read_outputs` is the only function that turns outputs into classes and probabilities. The head
comes from the operator that computes the output; `head_of_values` decides where no file states it.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_SUM_TOLERANCE = 0.02  # of probabilities, beyond the rounding of 8-bit outputs
_VALUE_TOLERANCE = 1e-3
_STEP = 1 / 256  # of 8-bit probabilities
_MIN_PIXELS = 64  # of an image; a classifier may have as many classes as a few features
_ENOUGH = 20  # images, to conclude from values that never change their sign


class Head(str, enum.Enum):
    """The meaning of the outputs of a model."""

    LOGITS = "logits"  # one score per class; softmax turns them into probabilities
    SOFTMAX = "softmax"  # one probability per class, with the sum 1
    LOGIT = "logit"  # one score for two classes: the second one from 0 on
    SIGMOID = "sigmoid"  # the probability of the second of two classes
    SIGMOIDS = "sigmoids"  # one independent probability per class
    VALUES = "values"  # no classes: an image, a position, an amount

    @property
    def is_binary(self) -> bool:
        """True if one output stands for two classes."""
        return self in (Head.LOGIT, Head.SIGMOID)


def head_of(
    operator: str | None, inputs: Sequence[int | None], outputs: Sequence[int | None]
) -> Head | None:
    """Return the head of a model.

    Args:
        operator: the operator that computes the output: "softmax", "sigmoid", or another one; None
            if it is unknown.
        inputs: the shape of the input, the batch first; None is a free size.
        outputs: the shape of the output.

    Returns:
        None if the operator and the shapes do not decide; then the values do.
    """
    sizes = [size for size in outputs[1:] if size != 1]
    if len(sizes) > 1:
        return Head.VALUES
    pixels = math.prod(size or 0 for size in inputs[1:])
    # An autoencoder returns an image.
    if sizes and sizes[0] == pixels >= _MIN_PIXELS and operator != "softmax":
        return Head.VALUES
    if operator is None or (sizes and sizes[0] is None):
        return None
    if not sizes:
        return Head.SIGMOID if operator == "sigmoid" else Head.LOGIT
    return {"softmax": Head.SOFTMAX, "sigmoid": Head.SIGMOIDS}.get(operator, Head.LOGITS)


def head_of_values(values: npt.NDArray[Any], labels: npt.NDArray[Any] | None = None) -> Head:
    """Return the head that the outputs for some images show.

    Args:
        values: finite floats of shape (N, outputs).
        labels: the true classes, if known.
    """
    import numpy as np

    count, outputs = values.shape
    unit = bool(
        values.size and values.min() >= -_VALUE_TOLERANCE and values.max() <= 1 + _VALUE_TOLERANCE
    )
    if outputs == 1:
        if labels is not None and len(labels) and not np.isin(labels, (0, 1)).all():
            return Head.VALUES
        if unit:
            return Head.SIGMOID
        # The scores of two classes have both signs. Those of an amount, such as an age, have not.
        one_sign = count >= _ENOUGH and bool((values >= 0).all() or (values < 0).all())
        return Head.VALUES if one_sign and labels is None else Head.LOGIT
    if not unit:
        return Head.LOGITS
    sums = values.sum(axis=1, dtype=np.float64)
    tolerance = _SUM_TOLERANCE + outputs * _STEP / 2
    return Head.SOFTMAX if bool((np.abs(sums - 1) <= tolerance).all()) else Head.SIGMOIDS


def resolve_head(
    stated: Head | None, values: npt.NDArray[Any], labels: npt.NDArray[Any] | None = None
) -> Head:
    """Return the head of a model, from what its file states and from its outputs.

    A file states the operator of its output. Other operators may compute probabilities too, and one
    score without an operator may be an amount, such as an age.

    Args:
        stated: the head that the file states; None if it states none.
        values: finite outputs, floats of shape (N, outputs).
        labels: the true classes, if known.
    """
    if stated is Head.VALUES:
        return stated
    shown = head_of_values(values, labels)
    fits = stated is not None and stated.is_binary == (values.shape[1] == 1)
    if not fits or (stated is Head.LOGITS and shown is Head.SOFTMAX):
        return shown
    if stated is Head.LOGIT and len(values) >= _ENOUGH:
        return Head.VALUES if shown is Head.SIGMOID and labels is None else shown
    assert stated
    return stated


def num_classes(head: Head, outputs: int) -> int:
    """Return the number of classes that a number of outputs stands for."""
    return 2 if head.is_binary else outputs


def class_names(labels: Sequence[str], head: Head, classes: int) -> tuple[str, ...]:
    """Return a name for each class: the labels, or else numbers.

    A single label for two classes names the second one, such as "defect" and "not defect".
    """
    if not labels:
        return tuple(map(str, range(classes)))
    if head.is_binary and len(labels) == 1:
        return f"not {labels[0]}", labels[0]
    return tuple(labels)


def read_outputs(
    values: npt.NDArray[Any], head: Head
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Turn the outputs of a classifier into classes and probabilities.

    Args:
        values: floats of shape (N, outputs).
        head: the meaning of the outputs; not `Head.VALUES`.

    Returns:
        The predicted class of each image, int64 of shape (N,); of independent probabilities, the
        most probable one. And the probability of each class, float64 of shape (N, classes).
    """
    import numpy as np

    assert head is not Head.VALUES
    real = values.astype(np.float64)
    if head.is_binary:
        # The sigmoid saturates long before exp overflows at 709.
        chance = real if head is Head.SIGMOID else 1 / (1 + np.exp(-np.clip(real, -500, 500)))
        classes = (values[:, 0] >= threshold(head)).astype(np.int64)
        return classes, np.concatenate([1 - chance, chance], axis=1)
    classes = values.argmax(axis=1).astype(np.int64)
    if head is Head.LOGITS and values.size:
        with np.errstate(under="ignore"):
            real = np.exp(real - real.max(axis=1, keepdims=True))
        real /= real.sum(axis=1, keepdims=True)
    return classes, real


def threshold(head: Head) -> float:
    """Return the smallest output that means the second of two classes, or that a label applies."""
    return 0.0 if head is Head.LOGIT else 0.5
