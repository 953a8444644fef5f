"""Inputs and outputs of a classifier: scale and layout of images, shape of logits, softmax."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.artifact import TensorSpec
from lenet_edge.data.dataset import to_input
from lenet_edge.errors import TargetError
from lenet_edge.target import Images, Logits


def scale_pixels(images: npt.NDArray[Any], pixel_scale: float) -> Images:
    """Convert images to input values.

    Args:
        images: integers are pixels and are multiplied by `pixel_scale`; floats are input values.
        pixel_scale: the factor.

    Returns:
        float32 of the same shape.
    """
    if images.dtype.kind == "f":
        return images.astype(np.float32, copy=False)
    return to_input(images, pixel_scale)


def arrange_images(images: Images, spec: TensorSpec) -> Images:
    """Rearrange images to the layout of an input tensor.

    The layouts are: unchanged, with or without an axis for one channel, channels first, and flat.

    Args:
        images: float32 of shape (N, ...).
        spec: the input tensor.

    Returns:
        float32 in the first layout that fits `spec`.

    Raises:
        TargetError: no layout fits.
    """
    shape = spec.shape[1:]
    layouts = [images, images[..., np.newaxis], images.reshape(len(images), -1)]
    if images.ndim == 4:
        layouts += [
            np.moveaxis(images, -1, 1),
            *([images[..., 0]] if images.shape[-1] == 1 else []),
        ]
    for candidate in layouts:
        if len(shape) == candidate.ndim - 1 and all(
            size in (None, actual) for size, actual in zip(shape, candidate.shape[1:], strict=True)
        ):
            return np.ascontiguousarray(candidate)
    fix = "give images of that shape with --data"
    if images.ndim == 4 and shape == np.moveaxis(images, 1, -1).shape[1:]:
        fix = "their channels come first: numpy.moveaxis(images, 1, -1)"
    raise TargetError(
        f"the model takes images of shape {_times(shape)} and these are"
        f" {_times(images.shape[1:])}; {fix}"
    )


def _times(shape: tuple[int | None, ...]) -> str:
    return " x ".join(str(size or "any") for size in shape)


def scores_by_class(logits: Logits, count: int) -> Logits:
    """Reshape logits of shape (N, C), (N, 1, 1, C) or (N, C, 1, 1) to (N, C).

    Args:
        logits: the output of a model.
        count: the expected number of images N.

    Raises:
        TargetError: the logits have another shape, so the model is not a classifier.
    """
    if len(logits) != count or sum(size > 1 for size in logits.shape[1:]) != 1:
        raise TargetError(
            f"the model maps {count} images to shape {logits.shape}; lenet-edge runs classifiers,"
            " which return shape (N, classes)"
        )
    return logits.reshape(len(logits), -1)


def probabilities(logits: Logits) -> npt.NDArray[np.float64]:
    """Compute the probability of each class by softmax.

    Args:
        logits: float32 of shape (N, classes). Values that already are probabilities (not negative,
            with a sum near 1 for each image) stay unchanged.

    Returns:
        float64 of shape (N, classes).
    """
    values: npt.NDArray[np.float64] = logits.astype(np.float64)
    if not values.size or (values.min() >= 0 and np.allclose(values.sum(axis=1), 1, atol=0.05)):
        return values
    with np.errstate(under="ignore"):
        values = np.exp(values - values.max(axis=1, keepdims=True))
    values /= values.sum(axis=1, keepdims=True)
    return values
