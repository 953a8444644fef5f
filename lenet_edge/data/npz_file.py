"""Anyone's data as NumPy arrays in one .npz file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.data.dataset import Dataset, check_dataset
from lenet_edge.errors import DataError
from lenet_edge.support import npz

NAMES = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True)
class LabelledImages:
    """Images of any shape (N, ...) as they were given, and labels (N,) if there are any."""

    images: npt.NDArray[Any]
    labels: npt.NDArray[np.int32] | None


def load_images(path: Path) -> LabelledImages:
    """Return the images and labels in an .npz file: arrays "images" and "labels", or of a data set.

    The images may be named x_test too, or be the only array; the labels may be y_test, or missing.

    Raises:
        DataError: the file is damaged, or its arrays cannot be used.
    """
    found = _read(path)
    names = ("images", "x_test", *(found if len(found) == 1 else ()))
    images = next((found[name] for name in names if name in found), None)
    if images is None:
        raise DataError(
            f"{path} has no array named images (it has: {', '.join(found)});"
            " save it with: numpy.savez(FILE, images=..., labels=...)"
        )
    if images.ndim < 2 or images.dtype.kind not in "iuf" or not len(images):
        raise DataError(
            f"images in {path} are {images.dtype} of shape {images.shape}; they are numbers of"
            " shape (N, height, width, channels), one or more"
        )
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        raise DataError(f"images in {path} hold {(~np.isfinite(images)).sum()} that are no numbers")
    given = next((found[name] for name in ("labels", "y_test") if name in found), None)
    labels = None if given is None else _labels(given, f"labels in {path}")
    if labels is not None and len(labels) != len(images):
        raise DataError(
            f"{path} has {len(images)} images but {len(labels)} labels; each image needs one"
        )
    return LabelledImages(images, labels)


def _read(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        return npz.read_arrays(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give an .npz file that is there") from None
    except ValueError as error:
        raise DataError(f"{path} cannot be read as .npz ({error}); write it again") from error


def load(path: Path) -> tuple[Dataset, Dataset]:
    """Return training and test part from x_train, y_train, x_test and y_test in an .npz file.

    Images have shape (N, height, width) or (N, height, width, channels), 0..255 as whole numbers
    or 0..1 as floats; labels are whole numbers from 0. An array `class_names` is optional.

    Raises:
        DataError: the file is damaged, an array is missing or does not fit the others.
    """
    found = _read(path)
    missing = [name for name in NAMES if name not in found]
    if missing:
        raise DataError(f"{path} has no array {', '.join(missing)}; it needs {', '.join(NAMES)}")
    labels = {
        part: _labels(found[f"y_{part}"], f"y_{part} in {path}") for part in ("train", "test")
    }
    named = found.get("class_names", np.array((), str))
    if named.ndim != 1:
        raise DataError(f"class_names in {path} has shape {named.shape}; give one name a class")
    names = tuple(map(str, named))
    if not names and len(labels["train"]):
        names = tuple(str(number) for number in range(int(labels["train"].max()) + 1))
    parts = [
        Dataset(
            f"{path.stem}-{part}",
            _images(found[f"x_{part}"], f"x_{part} in {path}"),
            labels[part],
            names,
        )
        for part in ("train", "test")
    ]
    for part in parts:
        check_dataset(part)
    training, test = parts
    if training.image_shape != test.image_shape:
        raise DataError(
            f"{path}: training images are {training.image_shape}, test images {test.image_shape};"
            " make them the same size"
        )
    return training, test


def _labels(array: npt.NDArray[Any], what: str) -> npt.NDArray[np.int32]:
    if array.ndim == 2 and array.shape[1] == 1:  # CIFAR's way
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(
            f"{what} is {array.dtype} of shape {array.shape}; labels are whole numbers, one each"
        )
    return array.astype(np.int32)


def _images(array: npt.NDArray[Any], what: str) -> npt.NDArray[np.uint8]:
    if array.ndim == 3:
        array = array[..., np.newaxis]
    if array.ndim != 4 or array.dtype.kind not in "iuf":
        raise DataError(
            f"{what} is {array.dtype} of shape {array.shape}; images have shape"
            " (N, height, width) or (N, height, width, channels)"
        )
    if array.dtype == np.uint8 or array.size == 0:
        return array.astype(np.uint8)
    if not np.isfinite(array).all():
        raise DataError(f"{what} holds {(~np.isfinite(array)).sum()} values that are no numbers")
    lowest, highest = float(array.min()), float(array.max())
    scale = 255 if array.dtype.kind == "f" and highest <= 1 else 1
    if lowest < 0 or highest * scale > 255:
        raise DataError(
            f"{what} lies in {lowest:g}..{highest:g}; pixels are 0..255, or 0..1 as floats"
        )
    pixels: npt.NDArray[np.uint8] = np.rint(array * scale).astype(np.uint8)
    return pixels
