"""Data sets and images in .npz files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.data.dataset import Dataset, FileFacts, LabelledImages, check_dataset
from lenet_edge.data.labels import index_labels, map_classes, number_classes
from lenet_edge.errors import DataError
from lenet_edge.support import npz
from lenet_edge.support.regular_file import open_regular_file

NAMES = ("x_train", "y_train", "x_test", "y_test")


def load_images(path: Path, class_names: Sequence[str] = ()) -> LabelledImages:
    """Load images, and labels if there are any, from an .npz file.

    The images are the array "images" or "x_test", or the only array of the file. The labels are
    the array "labels" or "y_test", in any form of `labels.index_labels`.

    Args:
        path: the file.
        class_names: the classes of the model, for labels that are names.

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
    check_images(images, path)
    array = next((arrays[name] for name in ("labels", "y_test") if name in arrays), None)
    labels = None
    if array is not None:
        labels, _ = index_labels(array, f"labels in {path}", class_names)
    if labels is not None and len(labels) != len(images):
        raise DataError(
            f"{path} has {len(images)} images but {len(labels)} labels; give one label for each"
            " image"
        )
    return LabelledImages(images, labels)


def load_npy(path: Path) -> LabelledImages:
    """Load images without labels from an .npy file.

    Raises:
        DataError: the file is missing or damaged, or its array is invalid.
    """
    try:
        with open_regular_file(path):
            pass
        # A map of the file checks the declared shape before any memory is allocated.
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(mapped, np.ndarray):
            raise ValueError("it is an .npz file")
        if mapped.nbytes > npz.MAX_BYTES:
            raise ValueError(f"it has {mapped.nbytes:,} bytes, and the limit is {npz.MAX_BYTES:,}")
        images = np.array(mapped)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give the path of an .npy file") from None
    except (OSError, ValueError, EOFError, OverflowError, SyntaxError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise DataError(f"{path} cannot be read as .npy ({reason}); write it again") from error
    check_images(images, path)
    return LabelledImages(images, None)


def check_images(images: npt.NDArray[Any], path: Path) -> None:
    """Check that an array holds finite numbers for one image or more.

    Raises:
        DataError: it does not.
    """
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


def _read(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        return npz.read_arrays(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give the path of an .npz file") from None
    except ValueError as error:
        raise DataError(f"{path} cannot be read as .npz ({error}); write it again") from error


def load(path: Path) -> tuple[Dataset, Dataset]:
    """Load the training part and the test part of a data set from an .npz file.

    The file has the arrays x_train, y_train, x_test and y_test. Images have a shape and values that
    `to_pixels` accepts. Labels have one of the forms of `labels.index_labels`. The array
    `class_names` is optional.

    Raises:
        DataError: the file is missing or damaged, or an array is missing or invalid.
    """
    arrays = _read(path)
    missing = [name for name in NAMES if name not in arrays]
    if missing:
        raise DataError(f"{path} has no array {', '.join(missing)}; it needs {', '.join(NAMES)}")
    class_names = arrays.get("class_names", np.array((), str))
    if class_names.ndim != 1:
        raise DataError(
            f"class_names in {path} has shape {class_names.shape}; give one name for each class"
        )
    names = tuple(map(str, class_names))
    labels, known = {}, names
    for part in ("train", "test"):
        name = f"y_{part} in {path}"
        labels[part], found = index_labels(arrays[f"y_{part}"], name, names)
        if part == "train":
            known = found or number_classes(labels[part], name)
        elif found:
            labels[part] = map_classes(labels[part], found, known, name)
    parts = []
    for part in ("train", "test"):
        pixels, remarks = to_pixels(arrays[f"x_{part}"], f"x_{part} in {path}")
        files = FileFacts(remarks=remarks, value_range=scaled_range(arrays[f"x_{part}"]))
        parts.append(Dataset(f"{path.stem}-{part}", pixels, labels[part], known, files))
    training, test = parts
    check_dataset(training)
    check_dataset(test)
    if training.image_shape != test.image_shape:
        raise DataError(
            f"{path}: training images are {training.image_shape}, test images {test.image_shape};"
            " make them the same size"
        )
    return training, test


def scaled_range(array: npt.NDArray[Any]) -> tuple[float, float] | None:
    """Return the range of images that are scaled pixels, 0..1 or -1..1; None for pixels."""
    if not array.size or array.dtype.kind not in "iufb":
        return None
    lowest, highest = float(array.min()), float(array.max())
    if lowest >= 0 and highest <= 1 and (array.dtype.kind == "f" or highest == 1):
        return 0, 1
    return (-1, 1) if array.dtype.kind == "f" and -1 <= lowest < 0 and highest <= 1 else None


def to_pixels(array: npt.NDArray[Any], name: str) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """Convert images to pixels of 0 to 255.

    Args:
        array: integers 0..255, numbers 0..1 or floats -1..1, of shape (N, height, width), with or
            without channels, or (N, pixels) for square grey images.
        name: the name of the array in error messages.

    Returns:
        uint8 of shape (N, height, width, channels), and a remark for each choice.

    Raises:
        DataError: the array has another shape or range.
    """
    side = math.isqrt(array.shape[1]) if array.ndim == 2 else 0
    if side > 1 and side * side == array.shape[1]:
        array = array.reshape(-1, side, side)
    if array.ndim == 3:
        array = array[..., np.newaxis]
    if array.ndim != 4 or array.dtype.kind not in "iufb":
        raise DataError(
            f"{name} is {array.dtype} of shape {array.shape}; give images of shape"
            " (N, height, width) or (N, height, width, channels)"
        )
    if array.size == 0:
        return array.astype(np.uint8), ()
    if not np.isfinite(array).all():
        raise DataError(
            f"{name} has {(~np.isfinite(array)).sum()} values that are not finite; remove them"
        )
    lowest, highest = float(array.min()), float(array.max())
    value_range = scaled_range(array)
    if value_range == (-1, 1):
        array, lowest, highest = (array + 1) / 2, (lowest + 1) / 2, (highest + 1) / 2
    scale = 255 if value_range else 1
    if lowest < 0 or highest * scale > 255:
        raise DataError(
            f"{name} lies in {lowest:g}..{highest:g}; give pixels of 0..255, or floats of 0..1 or"
            " -1..1"
        )
    remarks: tuple[str, ...] = ()
    if value_range:
        remarks = (f"The values of {name} lie in {value_range[0]}..1: 1 becomes the pixel 255",)
    if array.dtype == np.uint8 and scale == 1:
        return array, remarks
    pixels: npt.NDArray[np.uint8] = np.rint(array * np.float32(scale)).astype(np.uint8)
    return pixels, remarks
