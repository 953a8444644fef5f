"""The images that set the ranges of quantized activations, checked before they are used."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.data.dataset import Dataset, to_input
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
    """Return the images of an .npz file: its array "images", or its only one.

    Integers are pixels, 0 to 255, and are multiplied by `pixel_scale`; floats are taken as they
    are, scaled as the model takes them.

    Raises:
        DataError: the file cannot be read, or does not say which array holds the images.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = list(arrays)
            name = "images" if "images" in names or len(names) != 1 else names[0]
            values: npt.NDArray[Any] = arrays[name]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give an .npz file of calibration images") from None
    except KeyError:
        raise DataError(
            f"{path} has no array named images (it has: {', '.join(names)});"
            " save it with: numpy.savez(FILE, images=...)"
        ) from None
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} is not an .npz file of images ({error}); save it with numpy.savez"
        ) from error
    if values.dtype.kind not in "fiu":
        raise DataError(f"{path} holds {values.dtype} values; images are numbers")
    if values.dtype.kind != "f":
        if values.size and (values.min() < 0 or values.max() > 255):
            raise DataError(
                f"{path} holds pixels of {values.min()} to {values.max()}; integers must be pixels"
                " of 0 to 255, anything else float32 as the model takes it"
            )
        values = to_input(values, pixel_scale)
    count = len(values) if values.ndim else 0
    return Calibration(values.astype(np.float32, copy=False), f"{count} images of {path.name}")


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
