"""Tests of the data sets of users: IDX, .npz and .npy files."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lenet_edge.data import fashion_mnist, idx, mnist, npz_file
from lenet_edge.data.labelled_images import load_images
from lenet_edge.errors import DataError
from lenet_edge.flows import datasets

RANDOM = np.random.default_rng(0)


def write_idx(folder: Path, compressed: bool) -> dict[str, npt.NDArray[np.uint8]]:
    """Write four small IDX files with the names of MNIST's files."""
    written = {}
    for part, count in (("train", 30), ("test", 20)):
        images = RANDOM.integers(0, 256, (count, 28, 28), np.uint8)
        labels = RANDOM.integers(0, 10, count, np.uint8)
        for name, array in zip(mnist.FILES[part], (images, labels), strict=True):
            content = idx.encode(array)
            path = folder / (name + ".gz" if compressed else name)
            path.write_bytes(gzip.compress(content) if compressed else content)
            written[name] = array
    return written


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_idx_files_are_loaded(tmp_path: Path, compressed: bool) -> None:
    written = write_idx(tmp_path, compressed)
    training, test = datasets.load("fashion-mnist", tmp_path)
    for part, data in (("train", training), ("test", test)):
        images, labels = (written[name] for name in mnist.FILES[part])
        np.testing.assert_array_equal(data.images[..., 0], images)
        np.testing.assert_array_equal(data.labels, labels)
        assert data.class_names == fashion_mnist.CLASS_NAMES


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_a_truncated_idx_file_is_an_error(tmp_path: Path, compressed: bool) -> None:
    write_idx(tmp_path, compressed)
    path = next(tmp_path.glob("train-images*"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"train-images.*download it again"):
        fashion_mnist.load(tmp_path)


def test_a_missing_idx_file_is_an_error(tmp_path: Path) -> None:
    write_idx(tmp_path, compressed=False)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"no t10k-labels-idx1-ubyte \(or .*--data-dir"):
        fashion_mnist.load(tmp_path)


@pytest.mark.parametrize("fault", ["fifo", "bomb"])
def test_an_idx_file_that_never_ends_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(fashion_mnist, "_MAX_BYTES", 1_000_000)
    write_idx(tmp_path, compressed=True)
    path = next(tmp_path.glob("train-images*"))
    path.unlink()
    if fault == "fifo":
        os.mkfifo(path)
    else:
        path.write_bytes(gzip.compress(bytes(1_000_001)))
    with pytest.raises(DataError, match=r"not a regular file|more than 1,000,000 bytes"):
        fashion_mnist.load(tmp_path)


def write_npz(path: Path, **changed: Any) -> Path:
    arrays = {
        "x_train": RANDOM.integers(0, 256, (40, 12, 14, 3), np.uint8),
        "y_train": np.arange(40) % 4,
        "x_test": RANDOM.integers(0, 256, (10, 12, 14, 3), np.uint8),
        "y_test": np.arange(10) % 4,
        **changed,
    }
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_npz_arrays_are_loaded(tmp_path: Path) -> None:
    training, test = datasets.load(str(write_npz(tmp_path / "mine.npz")))
    assert (training.name, test.name) == ("mine-train", "mine-test")
    assert (len(training), training.image_shape) == (40, (12, 14, 3))
    assert training.class_names == ("0", "1", "2", "3")
    assert training.labels.dtype == np.int32
    named = write_npz(tmp_path / "named.npz", class_names=np.array(["a", "b", "c", "d"]))
    assert npz_file.load(named)[1].class_names == ("a", "b", "c", "d")


def test_float_and_grey_images_become_pixels(tmp_path: Path) -> None:
    grey = RANDOM.random((40, 12, 14))
    training, _ = npz_file.load(
        write_npz(tmp_path / "grey.npz", x_train=grey, x_test=np.full((10, 12, 14), 255.0))
    )
    np.testing.assert_array_equal(training.images[..., 0], np.rint(grey * 255))


@pytest.mark.parametrize(
    ("form", "names"),
    [
        (lambda labels: labels.astype(np.float64), "0123"),
        (lambda labels: labels[:, None], "0123"),
        (lambda labels: np.eye(5)[labels], "01234"),
        (lambda labels: np.eye(4, dtype=bool)[labels], "0123"),
        (lambda labels: np.array(list("abcd"))[labels], "abcd"),
        (lambda labels: np.array([b"a", b"b", b"c", b"d"])[labels], "abcd"),
        (lambda labels: labels.astype(str), "0123"),
    ],
    ids=["floats", "column", "one-hot", "one-hot bool", "names", "bytes", "digits"],
)
def test_labels_have_the_forms_of_other_libraries(tmp_path: Path, form: Any, names: str) -> None:
    labels = np.arange(40) % 4
    path = write_npz(tmp_path / "x.npz", y_train=form(labels), y_test=form(labels[:10]))
    training, test = npz_file.load(path)
    np.testing.assert_array_equal(training.labels, labels)
    np.testing.assert_array_equal(test.labels, labels[:10])
    assert training.class_names == test.class_names == tuple(names)


def test_flat_and_binary_images_become_pixels(tmp_path: Path) -> None:
    binary = RANDOM.integers(0, 2, (40, 144), np.uint8)
    training, _ = npz_file.load(write_npz(tmp_path / "x.npz", x_train=binary, x_test=binary[:10]))
    np.testing.assert_array_equal(training.images, binary.reshape(40, 12, 12, 1) * 255)
    assert "1 becomes the pixel 255" in training.files.remarks[0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y_test": None}, "has no array y_test"),
        ({"y_train": np.arange(39) % 4}, "40 images but 39 labels"),
        ({"y_test": np.full(10, 7)}, r"are 7\.\.7; they must lie in 0\.\.3"),
        ({"y_train": np.arange(40) % 4 - 1}, r"are -1\.\."),
        ({"y_train": np.arange(40) / 2}, r"has the value 0\.5, which is no class; give labels as"),
        ({"y_train": np.full((40, 4), 0.25)}, "not one-hot; give labels as integers"),
        ({"y_train": np.full(40, 10**12)}, "lies in 1e\\+12"),
        ({"y_train": np.full(40, 10**6)}, "has the label 1000000; number the classes from 0"),
        ({"y_train": np.full(40, None)}, "cannot be read as .npz"),
        (
            {"y_train": np.array(["a", "b"] * 20), "y_test": np.array(["c"] * 10)},
            "has the class 'c'",
        ),
        ({"x_train": np.full((40, 12, 14), np.nan)}, "6720 values that are not finite"),
        ({"x_train": np.full((40, 12, 14), 300)}, r"lies in 300\.\.300"),
        ({"x_train": np.full((40, 12, 14), -1.5)}, r"lies in -1\.5\.\."),
        ({"x_train": np.zeros((40, 168), np.uint8)}, "give images of shape"),
        ({"x_test": np.zeros((10, 14, 14, 3), np.uint8)}, "make them the same size"),
        ({"x_train": np.zeros((0, 12, 14, 3), np.uint8), "y_train": np.arange(0)}, "no images in"),
        ({"class_names": np.array("abcd")}, r"has shape \(\); give one name for each class"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_invalid_arrays_are_an_error(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        npz_file.load(write_npz(tmp_path / "bad.npz", **changed))


def test_a_truncated_npz_file_is_an_error(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "cut.npz")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"cut\.npz cannot be read as \.npz"):
        npz_file.load(path)


def test_an_npy_file_named_npz_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "single.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros((3, 4, 4)))
    with pytest.raises(DataError, match=r"single\.npz cannot be read as \.npz"):
        npz_file.load_images(path)


def test_an_npy_file_holds_images(tmp_path: Path) -> None:
    images = RANDOM.random((5, 28, 28)).astype(np.float32)
    np.save(tmp_path / "x.npy", images)
    loaded = load_images(tmp_path / "x.npy")
    np.testing.assert_array_equal(loaded.images, images)
    assert loaded.labels is None


@pytest.mark.parametrize("fault", ["cut", "declares too much", "pickle", "npz", "fifo", "missing"])
def test_a_bad_npy_file_is_an_error(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((5, 28, 28)))
    content = path.read_bytes()
    if fault == "cut":
        path.write_bytes(content[:300])
    elif fault == "declares too much":
        path.write_bytes(content.replace(b"(5, 28, 28)", b"(5, 28, 28000000)"))
    elif fault == "pickle":
        np.save(path, np.array([None, {}]))
    elif fault == "npz":
        with path.open("wb") as file:
            np.savez(file, np.zeros((5, 4)))
    else:
        path.unlink()
    if fault == "fifo":
        os.mkfifo(path)
    with pytest.raises(DataError, match=r"no such file|x\.npy cannot be read as \.npy") as caught:
        load_images(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["mnits", "missing.npz", "missing/", "x.npy", "photos.zip"])
def test_an_unknown_data_set_is_an_error(name: str) -> None:
    with pytest.raises(DataError, match=name.rstrip("/")):
        datasets.load(name)


def test_a_data_dir_without_fashion_mnist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data-dir is for fashion-mnist"):
        datasets.load("mnist", tmp_path)
