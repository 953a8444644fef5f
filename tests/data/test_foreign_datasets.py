"""Other people's data: IDX files, .npz files and folders of images, good and bad."""

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


def write_idx(folder: Path, packed: bool) -> dict[str, npt.NDArray[np.uint8]]:
    """Write four small files named as MNIST's are."""
    written = {}
    for part, count in (("train", 30), ("test", 20)):
        images = RANDOM.integers(0, 256, (count, 28, 28), np.uint8)
        labels = RANDOM.integers(0, 10, count, np.uint8)
        for name, array in zip(mnist.FILES[part], (images, labels), strict=True):
            content = idx.encode(array)
            path = folder / (name + ".gz" if packed else name)
            path.write_bytes(gzip.compress(content) if packed else content)
            written[name] = array
    return written


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_idx_files(tmp_path: Path, packed: bool) -> None:
    written = write_idx(tmp_path, packed)
    training, test = datasets.load("fashion-mnist", tmp_path)
    for part, data in (("train", training), ("test", test)):
        images, labels = (written[name] for name in mnist.FILES[part])
        np.testing.assert_array_equal(data.images[..., 0], images)
        np.testing.assert_array_equal(data.labels, labels)
        assert data.class_names == fashion_mnist.CLASS_NAMES


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_truncated_idx_file(tmp_path: Path, packed: bool) -> None:
    write_idx(tmp_path, packed)
    path = next(tmp_path.glob("train-images*"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"train-images.*get the file again"):
        fashion_mnist.load(tmp_path)


def test_a_missing_idx_file(tmp_path: Path) -> None:
    write_idx(tmp_path, packed=False)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"no t10k-labels-idx1-ubyte \(or .*--data-dir"):
        fashion_mnist.load(tmp_path)


def npz(path: Path, **changed: Any) -> Path:
    given = {
        "x_train": RANDOM.integers(0, 256, (40, 12, 14, 3), np.uint8),
        "y_train": np.arange(40) % 4,
        "x_test": RANDOM.integers(0, 256, (10, 12, 14, 3), np.uint8),
        "y_test": np.arange(10) % 4,
        **changed,
    }
    np.savez(path, **{name: array for name, array in given.items() if array is not None})
    return path


def test_npz_arrays(tmp_path: Path) -> None:
    training, test = datasets.load(str(npz(tmp_path / "mine.npz")))
    assert (training.name, test.name) == ("mine-train", "mine-test")
    assert (len(training), training.image_shape) == (40, (12, 14, 3))
    assert training.class_names == ("0", "1", "2", "3")
    assert training.labels.dtype == np.int32
    named = npz(tmp_path / "named.npz", class_names=np.array(["a", "b", "c", "d"]))
    assert npz_file.load(named)[1].class_names == ("a", "b", "c", "d")


def test_floats_and_grey_images(tmp_path: Path) -> None:
    grey = RANDOM.random((40, 12, 14))
    training, _ = npz_file.load(
        npz(tmp_path / "grey.npz", x_train=grey, x_test=np.full((10, 12, 14), 255.0))
    )
    np.testing.assert_array_equal(training.images[..., 0], np.rint(grey * 255))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"y_test": None}, "has no array y_test"),
        ({"y_train": np.arange(39) % 4}, "40 images but 39 labels"),
        ({"y_test": np.full(10, 7)}, r"must lie in 0\.\.3; found 7\.\.7"),
        ({"y_train": np.arange(40) % 4 - 1}, r"found -1\.\."),
        ({"y_train": np.arange(40) / 2}, "labels are whole numbers"),
        ({"x_train": np.full((40, 12, 14), np.nan)}, "6720 values that are no numbers"),
        ({"x_train": np.full((40, 12, 14), 300)}, r"lies in 300\.\.300"),
        ({"x_train": np.full((40, 12, 14), -0.5)}, r"lies in -0\.5\.\."),
        ({"x_train": np.zeros((40, 168), np.uint8)}, "images have shape"),
        ({"x_test": np.zeros((10, 14, 14, 3), np.uint8)}, "make them the same size"),
        ({"x_train": np.zeros((0, 12, 14, 3), np.uint8), "y_train": np.arange(0)}, "no images in"),
        ({"class_names": np.array("abcd")}, r"has shape \(\); give one name a class"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_bad_arrays(tmp_path: Path, changed: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        npz_file.load(npz(tmp_path / "bad.npz", **changed))


def test_a_truncated_npz(tmp_path: Path) -> None:
    path = npz(tmp_path / "cut.npz")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"cut\.npz cannot be read as \.npz"):
        npz_file.load(path)


def test_a_single_array_named_npz(tmp_path: Path) -> None:
    path = tmp_path / "one.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros((3, 4, 4)))
    with pytest.raises(DataError, match=r"one\.npz cannot be read as \.npz"):
        npz_file.load_images(path)


def folder_of_images(folder: Path, classes: str = "ab", colour: bool = True) -> Path:
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(20):
            size = (int(RANDOM.integers(5, 90)), int(RANDOM.integers(5, 90)))
            image = Image.new("RGB" if colour else "L", size, (200, 30, 0) if colour else 120)
            image.save(folder / name / f"{number}.{'png' if number % 2 else 'jpg'}")
    return folder


def test_a_folder_of_images(tmp_path: Path) -> None:
    training, test = datasets.load(str(folder_of_images(tmp_path / "photos")))
    assert training.class_names == test.class_names == ("a", "b")
    assert (len(training), len(test)) == (34, 6)
    assert training.image_shape == (28, 28, 3)
    assert np.bincount(test.labels).tolist() == [3, 3]
    again = datasets.load(str(tmp_path / "photos"))[0]
    np.testing.assert_array_equal(training.images, again.images)
    grey, _ = image_folder.load(folder_of_images(tmp_path / "grey", colour=False))
    assert grey.image_shape == (28, 28, 1)
    assert abs(int(grey.images.max()) - 120) <= 2


def test_a_folder_with_its_own_parts(tmp_path: Path) -> None:
    folder_of_images(tmp_path / "train", "abc")
    folder_of_images(tmp_path / "test", "abc")
    training, test = image_folder.load(tmp_path)
    assert (len(training), len(test)) == (60, 60)
    folder_of_images(tmp_path / "test", "d")
    with pytest.raises(DataError, match="different classes"):
        image_folder.load(tmp_path)


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    folder_of_images(tmp_path)
    bad = tmp_path / "b" / "7.png"
    bad.write_bytes(bad.read_bytes()[:40])
    with pytest.raises(DataError, match=r"b/7\.png cannot be read as an image"):
        image_folder.load(tmp_path)


def test_an_empty_class_folder_is_named(tmp_path: Path) -> None:
    folder_of_images(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no images"):
        image_folder.load(tmp_path)


@pytest.mark.parametrize("name", ["mnits", "missing.npz", "missing/"])
def test_no_such_data(name: str) -> None:
    with pytest.raises(DataError, match=name.rstrip("/")):
        datasets.load(name)


def test_a_data_dir_for_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data-dir is for fashion-mnist"):
        datasets.load("mnist", tmp_path)
