"""Labels of images in the forms that users have, as indices of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.data.folder_layout import sort_classes
from lenet_edge.errors import DataError

MAX_CLASSES = 10_000
_FORMS = "give labels as integers from 0, names, or one-hot rows"


def index_labels(
    array: npt.NDArray[Any], name: str, class_names: Sequence[str] = ()
) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Convert labels to indices of classes.

    Args:
        array: integers, floats that are whole numbers, or texts, of shape (N,) or (N, 1); or
            one-hot rows of shape (N, classes).
        name: the name of the array in error messages.
        class_names: the classes, for texts; without any, the classes are the distinct texts.

    Returns:
        The indices, of shape (N,), and the names of the classes. There are no names if the labels
        are plain numbers and `class_names` is empty.

    Raises:
        DataError: the labels have another form, or a text is not in `class_names`.
    """
    if array.ndim == 2 and array.shape[1] == 1:  # the shape of CIFAR's labels
        array = array[:, 0]
    if array.ndim == 2:
        return _from_one_hot(array, name, class_names)
    if array.ndim == 1 and array.dtype.kind in "US":
        texts = [text.decode(errors="replace") if isinstance(text, bytes) else str(text)
                 for text in array]  # fmt: skip
        if not all(map(_is_whole_number, texts)) or set(texts) <= set(class_names):
            present = tuple(sort_classes(texts))
            index = {text: i for i, text in enumerate(present)}
            indices = np.array([index[text] for text in texts], np.int32)
            return map_classes(indices, present, class_names, name), tuple(class_names) or present
        array = np.array(texts, np.float64)
    if array.ndim != 1 or array.dtype.kind not in "iufb":
        raise DataError(f"{name} is {array.dtype} of shape {array.shape}; {_FORMS}")
    if array.dtype.kind == "f" and not (array == np.floor(array)).all():
        (first,) = array[array != np.floor(array)][:1]
        raise DataError(f"{name} has the value {first:g}, which is no class; {_FORMS}")
    if array.size and not (array.min() >= -(2**31) and array.max() < 2**31):
        raise DataError(f"{name} lies in {array.min():g}..{array.max():g}; {_FORMS}")
    return array.astype(np.int32), tuple(class_names)


def number_classes(labels: npt.NDArray[np.int32], name: str) -> tuple[str, ...]:
    """Return the names "0", "1" ... of classes that have only numbers.

    Raises:
        DataError: the highest number is too large for a class.
    """
    highest = int(labels.max()) if len(labels) else -1
    if highest >= MAX_CLASSES:
        raise DataError(
            f"{name} has the label {highest}; number the classes from 0, up to"
            f" {MAX_CLASSES - 1:,}, or give them names"
        )
    return tuple(map(str, range(highest + 1)))


def map_classes(
    labels: npt.NDArray[np.int32],
    present: Sequence[str],
    class_names: Sequence[str],
    name: str,
) -> npt.NDArray[np.int32]:
    """Convert indices into `present` to indices into `class_names`.

    Raises:
        DataError: `class_names` lacks a class.
    """
    if not class_names:
        return labels
    if unknown := [text for text in present if text not in class_names]:
        raise DataError(
            f"{name} has the class {unknown[0]!r}, and the known classes are"
            f" {', '.join(class_names[:10])}{' ...' if len(class_names) > 10 else ''}; give images"
            " of these classes only"
        )
    positions = {text: index for index, text in enumerate(class_names)}
    return np.array([positions[text] for text in present], np.int32)[labels]


def _is_whole_number(text: str) -> bool:
    try:
        return float(text).is_integer()
    except ValueError:
        return False


def _from_one_hot(
    array: npt.NDArray[Any], name: str, class_names: Sequence[str]
) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    valid = array.size and array.dtype.kind in "iufb" and ((array == 0) | (array == 1)).all()
    if not valid or not (array.sum(axis=1) == 1).all():
        raise DataError(f"{name} is {array.dtype} of shape {array.shape} and not one-hot; {_FORMS}")
    names = tuple(class_names) or tuple(map(str, range(array.shape[1])))
    if len(names) != array.shape[1]:
        raise DataError(
            f"{name} has {array.shape[1]} columns for {len(names)} classes; give one column for"
            " each class"
        )
    return array.argmax(axis=1).astype(np.int32), names
