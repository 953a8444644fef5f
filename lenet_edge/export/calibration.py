"""Calibration images: they set the ranges of quantized activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.classifier_io import to_model_input
from lenet_edge.data.dataset import Dataset
from lenet_edge.errors import DataError, TargetError
from lenet_edge.export.onnx_model import OnnxInput
from lenet_edge.model_inputs import read_inputs
from lenet_edge.target import Images

NUM_IMAGES = 1000  # more images hardly change the ranges; fewer do
MIN_IMAGES = 2


@dataclass(frozen=True)
class Calibration:
    """Calibration images as input values of the model, and their source for the manifest.

    Attributes:
        arrays: the values of each input, channels last.
        source: their source.
    """

    arrays: tuple[Images, ...]
    source: str


def from_dataset(dataset: Dataset, parent: Artifact) -> Calibration:
    """Return the first 1,000 images of a dataset, as input values of a checkpoint."""
    count = min(NUM_IMAGES, len(dataset))
    images = _arranged(dataset.images[:count], parent)
    return Calibration((images,), f"first {count} images of {dataset.name}")


def from_images(images: npt.NDArray[Any], name: str, parent: Artifact) -> Calibration:
    """Return images of the user, as input values of a checkpoint.

    Args:
        images: integers are pixels, floats are input values or scaled pixels.
        name: the name of their file.
        parent: the checkpoint.
    """
    return Calibration((_arranged(images, parent),), f"{len(images)} images of {name}")


def from_arrays(path: Path, inputs: Sequence[OnnxInput]) -> Calibration:
    """Read the values of a model with several inputs.

    Args:
        path: an .npz file with an array for each input, in the layout of the original model.
        inputs: the inputs.

    Raises:
        DataError: the file cannot be read, or its arrays are not those of the inputs.
    """
    specs = [TensorSpec(entry.name, entry.original_shape, "float32") for entry in inputs]
    calls = read_inputs(path, specs, 1)
    if len(calls) < MIN_IMAGES:
        raise DataError(f"{path} holds values for one call; give {MIN_IMAGES} or more")
    arrays = [np.concatenate([call[entry.name] for call in calls]) for entry in inputs]
    layouts = [
        np.moveaxis(array, 1, -1) if entry.is_channels_first else array
        for entry, array in zip(inputs, arrays, strict=True)
    ]
    values = tuple(np.ascontiguousarray(array, np.float32) for array in layouts)
    if not all(np.isfinite(array).all() for array in values):
        raise DataError(f"{path} has values that are not finite; calibrate with real values")
    return Calibration(values, f"{len(calls)} inputs of {path.name}")


def _arranged(images: npt.NDArray[Any], parent: Artifact) -> Images:
    """Return images as input values; in their own shape if they do not fit the model."""
    try:
        return to_model_input(images, parent)
    except TargetError:
        return images.astype(np.float32)  # `check_calibration` reports the shape


def check_pixels(images: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """Return images of the user as uint8 or float32.

    Raises:
        DataError: integers lie outside of 0 to 255.
    """
    if images.dtype.kind == "f":
        return images.astype(np.float32, copy=False)
    low, high = images.min(), images.max()
    if low < 0 or high > 255:
        raise DataError(
            f"{name} holds pixels of {low} to {high}; give integers of 0 to 255, or float32"
            " scaled for the model"
        )
    return images.astype(np.uint8, copy=False)


def check_calibration(
    calibration: Calibration,
    image_shape: tuple[int, ...],
    limits: tuple[float, float] | None = None,
) -> None:
    """Check that calibration images can give useful ranges.

    Args:
        calibration: the images.
        image_shape: height, width and channels of the model's input.
        limits: the smallest and the largest input value of a pixel; None if unknown.

    Raises:
        DataError: there are fewer than 2 images, their shape does not fit the model, or their
            values are impossible.
    """
    (images,), source = calibration.arrays, calibration.source
    if images.shape[1:] != image_shape:
        raise DataError(
            f"{source} have shape {_times(images.shape[1:])} and the model takes"
            f" {_times(image_shape)}; give images that fit with --calibration"
        )
    if len(images) < MIN_IMAGES:
        raise DataError(
            f"{len(images)} calibration image(s) ({source}); give {MIN_IMAGES} or more,"
            f" better {NUM_IMAGES:,}"
        )
    low, high = float(images.min()), float(images.max())  # NaN if any value is NaN
    if not np.isfinite(low + high) or low == high:
        raise DataError(f"{source} go from {low:g} to {high:g}; calibrate with real images")
    if limits is not None:
        black, white = limits
        slack = 0.001 * (white - black)
        if low < black - slack or high > white + slack:
            raise DataError(
                f"{source} go from {low:g} to {high:g} and the model takes {black:g} to {white:g};"
                " scale them as in training"
            )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
