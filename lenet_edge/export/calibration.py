"""Calibration images: they set the ranges of quantized activations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lenet_edge.data.dataset import Dataset, to_input
from lenet_edge.data.npz_file import load_images
from lenet_edge.errors import DataError
from lenet_edge.target import Images

NUM_IMAGES = 1000  # more images hardly change the ranges; fewer do
MIN_IMAGES = 2


@dataclass(frozen=True)
class Calibration:
    """Calibration images, scaled as in training, and their source for the manifest."""

    images: Images
    source: str


def from_dataset(dataset: Dataset, pixel_scale: float) -> Calibration:
    """Return the first 1,000 images of a dataset, scaled."""
    count = min(NUM_IMAGES, len(dataset))
    images = to_input(dataset.images[:count], pixel_scale)
    return Calibration(images, f"first {count} images of {dataset.name}")


def from_file(path: Path, pixel_scale: float) -> Calibration:
    """Return the images of an .npz file, as `data.npz_file.load_images` finds them.

    Integers are pixels of 0 to 255 and are multiplied by `pixel_scale`. Floats are expected to be
    scaled for the model already.

    Raises:
        DataError: the file cannot be read, or its images cannot be used.
    """
    values = load_images(path).images
    if values.dtype.kind != "f":
        low, high = values.min(), values.max()
        if low < 0 or high > 255:
            raise DataError(
                f"{path} holds pixels of {low} to {high}; give integers of 0 to 255, or float32"
                " scaled for the model"
            )
        values = to_input(values, pixel_scale)
    images: Images = values.astype(np.float32, copy=False)
    return Calibration(images, f"{len(images)} images of {path.name}")


def check_calibration(
    calibration: Calibration, image_shape: tuple[int, ...], white: float | None = None
) -> None:
    """Check that calibration images can give useful ranges.

    Args:
        calibration: the images.
        image_shape: height, width and channels of the model's input.
        white: the largest pixel value after scaling for the model; None if unknown.

    Raises:
        DataError: there are fewer than 2 images, their shape does not fit the model, or their
            values are impossible.
    """
    images, source = calibration.images, calibration.source
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
    if white is not None and (low < 0 or high > white * 1.001):
        raise DataError(
            f"{source} go from {low:g} to {high:g} and the model takes 0 to {white:g};"
            " scale them as in training"
        )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
