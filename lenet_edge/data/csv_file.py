"""Images in CSV files, in the layout of Kaggle's MNIST: a label and the pixels in each row.

The header is optional. The label is the column "label" (or class, target, digit, y). Without such a
name it is the first column, if the others make a square image. Sources: the data pages of Kaggle's
"Digit Recognizer" and "MNIST in CSV".
"""

from __future__ import annotations

import csv
import io
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.data.dataset import (
    Dataset,
    FileFacts,
    LabelledImages,
    check_dataset,
    split_by_class,
)
from lenet_edge.data.labels import index_labels, number_classes
from lenet_edge.data.npz_file import check_images, to_pixels
from lenet_edge.errors import DataError
from lenet_edge.support.npz import MAX_BYTES
from lenet_edge.support.regular_file import open_regular_file

MAX_COLUMNS = 2**18  # more than the pixels of 256 x 256 in colour
_LABEL_NAMES = ("label", "labels", "class", "target", "digit", "y")
_ROWS_PER_CHUNK = 4096
_LAYOUT = "give a label and the pixels in each row, as in Kaggle's MNIST: label,pixel0,pixel1 ..."


@dataclass(frozen=True)
class _Table:
    """The content of a CSV file: one row of pixels for each image, and the texts of the labels."""

    pixels: npt.NDArray[np.float32]
    labels: npt.NDArray[np.str_] | None


def load(path: Path) -> tuple[Dataset, Dataset]:
    """Load a data set from a CSV file.

    The test part is the file beside it that has "test" for "train" in its name, if that file has
    labels. Otherwise it is 15 % of each class.

    Raises:
        DataError: a file is missing, too large or damaged, or there are no labels.
    """
    data = _load_part(path)
    if data is None:
        raise DataError(f"{path} has no column of labels; {_LAYOUT}")
    test_path = path.with_name(path.name.replace("train", "test"))
    if test_path == path or not test_path.is_file():
        return split_by_class(data)
    test = _load_part(test_path, data.class_names)
    if test is None:
        remark = f"{test_path} is not used, because it has no labels"
        return split_by_class(_with_remark(data, remark))
    return _with_remark(data, f"{test_path} is the test part"), test


def _with_remark(data: Dataset, remark: str) -> Dataset:
    files = replace(data.files, remarks=(*data.files.remarks, remark))
    return replace(data, files=files)


def _load_part(path: Path, class_names: tuple[str, ...] = ()) -> Dataset | None:
    """Return the labelled images of a file; None if it has no labels.

    Raises:
        DataError: the file is missing, too large or damaged.
    """
    table = _read(path)
    if table.labels is None:
        return None
    labels, names = index_labels(table.labels, f"labels in {path}", class_names)
    names = names or number_classes(labels, str(path))
    pixels, remarks = to_pixels(_shaped(table.pixels, None, path), f"the pixels in {path}")
    data = Dataset(path.stem, pixels, labels, names, FileFacts(remarks=remarks))
    check_dataset(data)
    return data


def load_images(
    path: Path, shape: tuple[int, int, int] | None = None, class_names: Sequence[str] = ()
) -> LabelledImages:
    """Load images, and labels if there are any, from a CSV file.

    Args:
        path: the file.
        shape: height, width and channels; None means square grey images.
        class_names: the classes of the model, for labels that are names.

    Returns:
        uint8 if all values are whole numbers of 0 to 255, and otherwise float32.

    Raises:
        DataError: the file is missing, too large or damaged, or does not fit `shape`.
    """
    table = _read(path, math.prod(shape) if shape else None)
    images: npt.NDArray[Any] = _shaped(table.pixels, shape, path)
    check_images(images, path)
    whole = (images == np.rint(images)).all() and images.min() >= 0 and images.max() <= 255
    if whole:
        images = images.astype(np.uint8)
    if table.labels is None:
        return LabelledImages(images, None)
    labels, _ = index_labels(table.labels, f"labels in {path}", class_names)
    return LabelledImages(images, labels)


def _shaped(
    pixels: npt.NDArray[np.float32], shape: tuple[int, int, int] | None, path: Path
) -> npt.NDArray[np.float32]:
    count = pixels.shape[1]
    if shape and math.prod(shape) == count:
        return pixels.reshape(-1, *shape)
    side = math.isqrt(count)
    if side < 2 or side * side != count:
        raise DataError(f"{path} has {count} pixels in each row, which is no square; {_LAYOUT}")
    return pixels.reshape(-1, side, side, 1)


def _read(path: Path, num_pixels: int | None = None) -> _Table:
    """Read a CSV file in chunks of rows.

    Args:
        path: the file.
        num_pixels: the number of pixels of an image; None means those of a square.

    Raises:
        DataError: the file is missing, too large or damaged.
    """
    try:
        with open_regular_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise DataError(
                    f"{path} has {size:,} bytes, and the limit is {MAX_BYTES:,}; split it"
                )
            with io.TextIOWrapper(file, "utf-8-sig") as text:
                return _parse(text, path, num_pixels)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give the path of a CSV file") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check the file") from error
    except csv.Error as error:
        raise DataError(f"{path} cannot be read as CSV ({error}); {_LAYOUT}") from error
    except UnicodeDecodeError:
        raise DataError(f"{path} is not a text file in UTF-8; save it as CSV") from None


def _parse(file: io.TextIOWrapper, path: Path, num_pixels: int | None) -> _Table:
    first = file.readline(16 * MAX_COLUMNS)
    delimiter = max(",;\t", key=first.count)
    cells = next(csv.reader([first], delimiter=delimiter), [])
    if not 2 <= len(cells) <= MAX_COLUMNS:
        raise DataError(f"{path} has {len(cells)} columns in its first row; {_LAYOUT}")
    names = [cell.strip().lower() for cell in cells]
    label = next((i for i, name in enumerate(names) if name in _LABEL_NAMES), None)
    has_header = sum(map(_is_number, names)) < len(names) - 1
    others = len(names) - 1
    if label is None and others == (num_pixels or math.isqrt(others) ** 2):
        label = 0
    rows: Iterator[str] = file if has_header else itertools.chain([first], file)
    pixel_columns = [i for i in range(len(names)) if i != label]
    limit = MAX_BYTES // (4 * len(pixel_columns))
    chunks: list[npt.NDArray[np.float32]] = []
    labels: list[str] = []
    done = 0
    while lines := list(itertools.islice((row for row in rows if row.strip()), _ROWS_PER_CHUNK)):
        done += len(lines)
        if done > limit:
            raise DataError(f"{path} has over {limit:,} rows, the limit; split it")
        first_row = done - len(lines) + 1 + has_header
        if label is not None:
            labels += _label_texts(lines, delimiter, label)
        chunks.append(_numbers(lines, delimiter, pixel_columns, len(names), path, first_row))
    if not chunks:
        raise DataError(f"{path} has no rows of images; {_LAYOUT}")
    return _Table(np.concatenate(chunks), None if label is None else np.array(labels))


def _label_texts(lines: Sequence[str], delimiter: str, column: int) -> list[str]:
    if column == 0 and '"' not in lines[0]:
        return [line.partition(delimiter)[0].strip() for line in lines]
    rows = csv.reader(lines, delimiter=delimiter)
    return [row[column].strip() if column < len(row) else "" for row in rows]


def _numbers(
    lines: Sequence[str],
    delimiter: str,
    columns: Sequence[int],
    width: int,
    path: Path,
    first_row: int,
) -> npt.NDArray[np.float32]:
    """Return the numbers in some columns of rows.

    Raises:
        DataError: a row has another number of columns, or a cell is not a number.
    """
    for number, line in enumerate(lines, start=first_row):
        if line.count(delimiter) != width - 1 and '"' not in line:
            raise DataError(
                f"row {number} of {path} has {line.count(delimiter) + 1} columns instead of"
                f" {width}; correct it"
            )
    try:
        return np.loadtxt(
            lines, np.float32, comments=None, delimiter=delimiter, usecols=columns, ndmin=2,
            quotechar='"',
        )  # fmt: skip
    except ValueError as error:
        reason = " ".join(str(error).split()).split(" at row")[0].rstrip(".")
        raise DataError(
            f"{path} cannot be read, in row {_bad_row(lines, delimiter, columns) + first_row}"
            f" ({reason}); correct it"
        ) from error


def _bad_row(lines: Sequence[str], delimiter: str, columns: Sequence[int]) -> int:
    """Return the index of the first row in which a cell is not a number."""
    for index, row in enumerate(csv.reader(lines, delimiter=delimiter)):
        if not all(column < len(row) and _is_number(row[column]) for column in columns):
            return index
    return 0


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
