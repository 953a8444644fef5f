"""The images that set the ranges of quantized activations, checked before they are used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lenet_edge.data.dataset import Dataset, to_input
from lenet_edge.data.npz_file import load_images
from lenet_edge.errors import DataError
from lenet_edge.target import Images

NUM_IMAGES = 1000  # more hardly change the ranges; fewer do
MIN_IMAGES = 2


@dataclass(frozen=True)
class Calibration:
    """Images as the model takes them, and what they are, for the manifest."""

    images: Images
    source: str


def from_dataset(dataset: Dataset, pixel_scale: float) -> Calibration:
    """Return the first 1,000 images of a data set, scaled."""
    count = min(NUM_IMAGES, len(dataset))
    images = to_input(dataset.images[:count], pixel_scale)
    return Calibration(images, f"first {count} images of {dataset.name}")


def from_file(path: Path, pixel_scale: float) -> Calibration:
    """Return the images of an .npz file, as `data.npz_file.load_images` finds them.

    Whole numbers are pixels, 0 to 255, and are multiplied by `pixel_scale`; floats are taken as
    they are, scaled as the model takes them.

    Raises:
        DataError: the file cannot be read, or its images cannot be used.
    """
    values = load_images(path).images
    if values.dtype.kind != "f":
        low, high = values.min(), values.max()
        if low < 0 or high > 255:
            raise DataError(
                f"{path} holds pixels of {low} to {high}; integers must be pixels of 0 to 255,"
                " anything else float32 as the model takes it"
            )
        values = to_input(values, pixel_scale)
    images: Images = values.astype(np.float32, copy=False)
    return Calibration(images, f"{len(images)} images of {path.name}")


def check(
    calibration: Calibration, image_shape: tuple[int, ...], white: float | None = None
) -> None:
    """Refuse images that would give useless ranges.

    Args:
        calibration: the images.
        image_shape: what the model takes.
        white: the largest value that a pixel has when scaled for the model; None if not known.

    Raises:
        DataError: there are fewer than 2, they have another shape, or their values cannot be.
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
            f" {NUM_IMAGES:,} if you can"
        )
    low, high = float(images.min()), float(images.max())  # NaN spreads to both
    if not np.isfinite(low + high) or low == high:
        raise DataError(f"{source} go from {low:g} to {high:g}; calibration needs real images")
    if white is not None and (low < 0 or high > white * 1.001):
        raise DataError(
            f"{source} go from {low:g} to {high:g} and the model takes 0 to {white:g};"
            " scale them as in training"
        )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
