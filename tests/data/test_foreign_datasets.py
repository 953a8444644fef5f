"""Tests of the data sets of users: IDX files, .npz files and folders of images."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from lenet_edge.data import fashion_mnist, idx, image_folder, mnist, npz_file
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
    ("changed", "message"),
    [
        ({"y_test": None}, "has no array y_test"),
        ({"y_train": np.arange(39) % 4}, "40 images but 39 labels"),
        ({"y_test": np.full(10, 7)}, r"are 7\.\.7; they must lie in 0\.\.3"),
        ({"y_train": np.arange(40) % 4 - 1}, r"are -1\.\."),
        ({"y_train": np.arange(40) / 2}, "give labels as integers"),
        ({"x_train": np.full((40, 12, 14), np.nan)}, "6720 values that are not finite"),
        ({"x_train": np.full((40, 12, 14), 300)}, r"lies in 300\.\.300"),
        ({"x_train": np.full((40, 12, 14), -0.5)}, r"lies in -0\.5\.\."),
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


def write_image_folder(folder: Path, classes: str = "ab", colour: bool = True) -> Path:
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(20):
            size = (int(RANDOM.integers(5, 90)), int(RANDOM.integers(5, 90)))
            image = Image.new("RGB" if colour else "L", size, (200, 30, 0) if colour else 120)
            image.save(folder / name / f"{number}.{'png' if number % 2 else 'jpg'}")
    return folder


def test_a_folder_of_images_is_split(tmp_path: Path) -> None:
    training, test = datasets.load(str(write_image_folder(tmp_path / "photos")))
    assert training.class_names == test.class_names == ("a", "b")
    assert (len(training), len(test)) == (34, 6)
    assert training.image_shape == (28, 28, 3)
    assert np.bincount(test.labels).tolist() == [3, 3]
    reloaded, _ = datasets.load(str(tmp_path / "photos"))
    np.testing.assert_array_equal(training.images, reloaded.images)
    grey, _ = image_folder.load(write_image_folder(tmp_path / "grey", colour=False))
    assert grey.image_shape == (28, 28, 1)
    assert abs(int(grey.images.max()) - 120) <= 2


def test_a_folder_with_train_and_test_is_not_split(tmp_path: Path) -> None:
    write_image_folder(tmp_path / "train", "abc")
    write_image_folder(tmp_path / "test", "abc")
    training, test = image_folder.load(tmp_path)
    assert (len(training), len(test)) == (60, 60)
    write_image_folder(tmp_path / "test", "d")
    with pytest.raises(DataError, match="different classes"):
        image_folder.load(tmp_path)


def test_the_error_names_an_unreadable_image(tmp_path: Path) -> None:
    write_image_folder(tmp_path)
    bad = tmp_path / "b" / "7.png"
    bad.write_bytes(bad.read_bytes()[:40])
    with pytest.raises(DataError, match=r"b/7\.png cannot be read as an image"):
        image_folder.load(tmp_path)


def test_the_error_names_an_empty_class_folder(tmp_path: Path) -> None:
    write_image_folder(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no images"):
        image_folder.load(tmp_path)


@pytest.mark.parametrize("name", ["mnits", "missing.npz", "missing/"])
def test_an_unknown_data_set_is_an_error(name: str) -> None:
    with pytest.raises(DataError, match=name.rstrip("/")):
        datasets.load(name)


def test_a_data_dir_without_fashion_mnist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data-dir is for fashion-mnist"):
        datasets.load("mnist", tmp_path)
