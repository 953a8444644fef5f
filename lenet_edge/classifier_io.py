"""What a classifier takes and gives, whatever its layout: images in, a score for each class out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.artifact import TensorSpec
from lenet_edge.data.dataset import to_input
from lenet_edge.errors import TargetError
from lenet_edge.target import Images, Logits


def scale_pixels(images: npt.NDArray[Any], pixel_scale: float) -> Images:
    """Return images as float32: whole numbers are pixels and are scaled, floats stay."""
    if images.dtype.kind == "f":
        return images.astype(np.float32, copy=False)
    return to_input(images, pixel_scale)


def arrange_images(images: Images, spec: TensorSpec) -> Images:
    """Return images in the layout of an input.

    That is as they are, with or without an axis for one channel, with the channels first, or flat.

    Raises:
        TargetError: none of these fits.
    """
    wanted = spec.shape[1:]
    layouts = [images, images[..., np.newaxis], images.reshape(len(images), -1)]
    if images.ndim == 4:
        layouts += [
            np.moveaxis(images, -1, 1),
            *([images[..., 0]] if images.shape[-1] == 1 else []),
        ]
    for candidate in layouts:
        if len(wanted) == candidate.ndim - 1 and all(
            size in (None, given) for size, given in zip(wanted, candidate.shape[1:], strict=True)
        ):
            return np.ascontiguousarray(candidate)
    fix = "give images that fit with --data"
    if images.ndim == 4 and wanted == np.moveaxis(images, 1, -1).shape[1:]:
        fix = "their channels come first: numpy.moveaxis(images, 1, -1)"
    raise TargetError(
        f"the model takes images of shape {_times(wanted)} and these are"
        f" {_times(images.shape[1:])}; {fix}"
    )


def _times(shape: tuple[int | None, ...]) -> str:
    return " x ".join(str(size or "any") for size in shape)


def scores_by_class(logits: Logits, count: int) -> Logits:
    """Return logits of shape (N, C), (N, 1, 1, C) or (N, C, 1, 1) as (N, C).

    Raises:
        TargetError: they have another shape, so the model is no classifier.
    """
    if len(logits) != count or sum(size > 1 for size in logits.shape[1:]) != 1:
        raise TargetError(
            f"the model answers {count} images with shape {logits.shape}; lenet-edge runs"
            " classifiers, which answer (N, classes)"
        )
    return logits.reshape(len(logits), -1)


def probabilities(logits: Logits) -> npt.NDArray[np.float64]:
    """Return the probability of each class for each image, of shape (N, classes): the softmax.

    Answers that already are probabilities (0 to 1, with sum 1) are taken as they are.
    """
    values: npt.NDArray[np.float64] = logits.astype(np.float64)
    if not values.size or (values.min() >= 0 and np.allclose(values.sum(axis=1), 1, atol=0.05)):
        return values
    with np.errstate(under="ignore"):
        values = np.exp(values - values.max(axis=1, keepdims=True))
    values /= values.sum(axis=1, keepdims=True)
    return values
