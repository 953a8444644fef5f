"""Data sets and images in .npz files."""

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
    """Images of any shape (N, ...) and any numeric dtype, with labels (N,) if the file has them."""

    images: npt.NDArray[Any]
    labels: npt.NDArray[np.int32] | None


def load_images(path: Path) -> LabelledImages:
    """Load images, and labels if there are any, from an .npz file.

    The images are the array "images" or "x_test", or the only array of the file. The labels are
    the array "labels" or "y_test".

    Returns:
        The images unchanged, and the labels as int32.

    Raises:
        DataError: the file is missing or damaged, or its arrays are invalid.
    """
    arrays = _read(path)
    names = ("images", "x_test", *(arrays if len(arrays) == 1 else ()))
    images = next((arrays[name] for name in names if name in arrays), None)
    if images is None:
        raise DataError(
            f"{path} has no array named images (it has: {', '.join(arrays)});"
            " save it with: numpy.savez(FILE, images=..., labels=...)"
        )
    if images.ndim < 2 or images.dtype.kind not in "iuf" or not len(images):
        raise DataError(
            f"images in {path} are {images.dtype} of shape {images.shape}; give numbers of shape"
            " (N, height, width, channels), with one image or more"
        )
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        raise DataError(
            f"images in {path} have {(~np.isfinite(images)).sum()} values that are not finite;"
            " remove them"
        )
    array = next((arrays[name] for name in ("labels", "y_test") if name in arrays), None)
    labels = None if array is None else _check_labels(array, f"labels in {path}")
    if labels is not None and len(labels) != len(images):
        raise DataError(
            f"{path} has {len(images)} images but {len(labels)} labels; give one label for each"
            " image"
        )
    return LabelledImages(images, labels)


def _read(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        return npz.read_arrays(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give the path of an .npz file") from None
    except ValueError as error:
        raise DataError(f"{path} cannot be read as .npz ({error}); write it again") from error


def load(path: Path) -> tuple[Dataset, Dataset]:
    """Load the training part and the test part of a data set from an .npz file.

    The file has the arrays x_train, y_train, x_test and y_test. Images have shape
    (N, height, width) or (N, height, width, channels), and are integers 0..255 or floats 0..1.
    Labels are integers from 0, of shape (N,). The array `class_names` is optional.

    Raises:
        DataError: the file is missing or damaged, or an array is missing or invalid.
    """
    arrays = _read(path)
    missing = [name for name in NAMES if name not in arrays]
    if missing:
        raise DataError(f"{path} has no array {', '.join(missing)}; it needs {', '.join(NAMES)}")
    labels = {
        part: _check_labels(arrays[f"y_{part}"], f"y_{part} in {path}")
        for part in ("train", "test")
    }
    class_names = arrays.get("class_names", np.array((), str))
    if class_names.ndim != 1:
        raise DataError(
            f"class_names in {path} has shape {class_names.shape}; give one name for each class"
        )
    names = tuple(map(str, class_names))
    if not names and len(labels["train"]):
        names = tuple(str(number) for number in range(int(labels["train"].max()) + 1))
    parts = [
        Dataset(
            f"{path.stem}-{part}",
            _to_pixels(arrays[f"x_{part}"], f"x_{part} in {path}"),
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


def _check_labels(array: npt.NDArray[Any], name: str) -> npt.NDArray[np.int32]:
    if array.ndim == 2 and array.shape[1] == 1:  # the shape of CIFAR's labels
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(
            f"{name} is {array.dtype} of shape {array.shape}; give labels as integers of shape (N,)"
        )
    return array.astype(np.int32)


def _to_pixels(array: npt.NDArray[Any], name: str) -> npt.NDArray[np.uint8]:
    if array.ndim == 3:
        array = array[..., np.newaxis]
    if array.ndim != 4 or array.dtype.kind not in "iuf":
        raise DataError(
            f"{name} is {array.dtype} of shape {array.shape}; give images of shape"
            " (N, height, width) or (N, height, width, channels)"
        )
    if array.dtype == np.uint8 or array.size == 0:
        return array.astype(np.uint8)
    if not np.isfinite(array).all():
        raise DataError(
            f"{name} has {(~np.isfinite(array)).sum()} values that are not finite; remove them"
        )
    lowest, highest = float(array.min()), float(array.max())
    scale = 255 if array.dtype.kind == "f" and highest <= 1 else 1
    if lowest < 0 or highest * scale > 255:
        raise DataError(
            f"{name} lies in {lowest:g}..{highest:g}; give pixels of 0..255, or floats of 0..1"
        )
    pixels: npt.NDArray[np.uint8] = np.rint(array * scale).astype(np.uint8)
    return pixels
