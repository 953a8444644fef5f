"""Tests of images in CSV files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_edge.data import csv_file
from lenet_edge.data.labelled_images import load_images
from lenet_edge.errors import DataError
from lenet_edge.flows import datasets

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (40, 784))
LABELS = np.arange(40) % 4
NUMBERED = [f"pixel{i}" for i in range(784)]
CROSSED = [f"{row}x{column}" for row in range(1, 29) for column in range(1, 29)]


def write_csv(
    path: Path, labels: Any = LABELS, pixels: Any = PIXELS, header: Any = ("label", *NUMBERED)
) -> Path:
    rows = [",".join(map(str, header))] if header else []
    for index, row in enumerate(pixels):
        cells = [] if labels is None else [labels[index]]
        rows.append(",".join(map(str, [*cells, *row])))
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, "0123"),
        ({"header": ("label", *CROSSED)}, "0123"),
        ({"header": None}, "0123"),
        ({"labels": LABELS / 1.0}, "0123"),
        ({"labels": np.array(list("wxyz"))[LABELS]}, "wxyz"),
        ({"labels": np.array(['"w"', '"x"', '"y"', '"z"'])[LABELS]}, "wxyz"),
        ({"pixels": PIXELS / 255}, "0123"),
    ],
    ids=["Kaggle", "1x1", "no header", "floats", "names", "quoted", "0..1"],
)
def test_csv_files_are_data_sets(tmp_path: Path, options: dict[str, Any], names: str) -> None:
    training, test = datasets.load(str(write_csv(tmp_path / "digits.CSV", **options)))
    assert training.class_names == test.class_names == tuple(names)
    assert (len(training), len(test)) == (32, 8)  # 15 % of ten images are two
    assert training.image_shape == (28, 28, 1)
    for data in (training, test):
        for image, label in zip(data.images, data.labels, strict=True):
            (index,) = np.flatnonzero((image.reshape(-1) == PIXELS).all(axis=1))
            assert LABELS[index] == label


def test_the_file_beside_a_training_file_is_the_test_part(tmp_path: Path) -> None:
    names = np.array(list("wxyz"))[LABELS]
    path = write_csv(tmp_path / "mnist_train.csv", names)
    write_csv(tmp_path / "mnist_test.csv", names[1:9], PIXELS[1:9])
    training, test = csv_file.load(path)
    assert (len(training), len(test)) == (40, 8)
    assert test.labels.tolist() == LABELS[1:9].tolist()
    assert training.class_names == test.class_names == tuple("wxyz")
    assert training.files.remarks == (f"{tmp_path}/mnist_test.csv is the test part",)
    write_csv(tmp_path / "mnist_test.csv", None, header=NUMBERED)
    training, test = csv_file.load(path)
    assert (len(training), len(test)) == (32, 8)
    assert "is not used, because it has no labels" in training.files.remarks[0]


@pytest.mark.parametrize("how", ["semicolons", "mark and CRLF", "last"])
def test_spreadsheets_write_other_csv_files(tmp_path: Path, how: str) -> None:
    path = write_csv(tmp_path / "x.csv")
    text = path.read_text()
    if how == "semicolons":
        path.write_text(text.replace(",", ";"))
    elif how == "mark and CRLF":
        path.write_text("\ufeff" + text.replace("\n", "\r\n"), encoding="utf-8", newline="")
    else:
        rows = [line.split(",") for line in text.split()]
        path.write_text("\n".join(",".join([*row[1:], row[0]]) for row in rows))
    images = csv_file.load_images(path)
    np.testing.assert_array_equal(images.images.reshape(40, -1), PIXELS)
    assert images.labels is not None
    assert images.labels.tolist() == LABELS.tolist()


def test_a_csv_file_without_labels_holds_images(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "test.csv", labels=None, header=NUMBERED)
    images = load_images(path)
    assert images.labels is None
    assert images.images.dtype == np.uint8
    np.testing.assert_array_equal(images.images.reshape(40, -1), PIXELS)
    with pytest.raises(DataError, match="has no column of labels; give a label and the pixels"):
        csv_file.load(path)
    colour = write_csv(tmp_path / "rgb.csv", pixels=PIXELS[:, :48] / 255, header=None)
    assert load_images(colour, (4, 4, 3)).images.shape == (40, 4, 4, 3)
    assert load_images(colour, (4, 4, 3)).images.dtype == np.float32


FAULTS = {
    "short row": ("\n5,1,2\n", r"row 42 of .* has 3 columns instead of 785"),
    "empty cell": ("\n5," + "," * 783 + "\n", r"in row 42 \("),
    "word": ("\n5," + "9," * 783 + "dark\n", r"in row 42 \("),
    "infinite": ("\n5," + "9," * 783 + "inf\n", "not finite"),
    "too bright": ("\n5," + "9," * 783 + "300\n", r"lies in 0\.\.300"),
    "half a label": ("\n5.5," + "9," * 783 + "9\n", "has 5 classes|has one image"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_bad_row_is_an_error_with_its_number(tmp_path: Path, name: str) -> None:
    row, message = FAULTS[name]
    path = write_csv(tmp_path / "x.csv")
    path.write_text(path.read_text().rstrip() + row)
    with pytest.raises(DataError, match=message) as caught:
        csv_file.load(path)
    assert "\n" not in str(caught.value)


def test_other_files_named_csv_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    for content, message in (
        (b"", "has 0 columns"),
        (b"label,pixel0\n", "has no rows"),
        (b"\xff\xfe\0a,1\n", "not a text file in UTF-8"),
        (b"name,price\nfish,3\n", "has 1 pixels in each row, which is no square"),
        (b"x" * 10_000_000, "cannot be read as CSV"),
        (b'"' + b"a,b\n" * 100, "columns"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            csv_file.load(path)
    path.unlink()
    with pytest.raises(DataError, match="no such file"):
        csv_file.load(path)
    os.mkfifo(path)
    with pytest.raises(DataError, match="not a regular file"):
        csv_file.load(path)
    path.unlink()
    with path.open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(DataError, match=r"2,147,483,648 bytes, and the limit is 1,073,741,824"):
        csv_file.load(path)
