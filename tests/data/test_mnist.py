"""Tests of the embedded MNIST."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from lenet_edge.data import idx, mnist
from lenet_edge.data.dataset import to_input

# MD5 sums of the four published files, uncompressed.
PUBLISHED_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
Part = Literal["train", "test"]


def original_files(part: Part) -> dict[str, bytes]:
    """Encode the two IDX files of a part from the arrays in the package."""
    data = mnist.load(part)
    arrays = data.images[..., 0], data.labels.astype(np.uint8)
    names = mnist.FILES[part]
    return {name: idx.encode(array) for name, array in zip(names, arrays, strict=True)}


@pytest.mark.parametrize("part", ["train", "test"])
def test_the_embedded_arrays_are_the_original_files_byte_for_byte(part: Part) -> None:
    for name, content in original_files(part).items():
        assert hashlib.md5(content).hexdigest() == PUBLISHED_MD5[name] == mnist.MD5[name]


@pytest.mark.parametrize(("part", "count"), [("train", 60_000), ("test", 10_000)])
def test_shapes_types_and_classes(part: Part, count: int) -> None:
    data = mnist.load(part)
    assert len(data) == count
    assert data.images.shape == (count, 28, 28, 1)
    assert data.images.dtype == np.uint8
    assert data.labels.shape == (count,)
    assert data.labels.dtype == np.int32
    assert data.class_names == tuple("0123456789")
    assert set(data.labels) == set(range(10))


def test_the_first_test_labels_are_the_published_ones() -> None:
    assert mnist.load("test").labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def test_the_test_part_loads_without_the_training_part_and_tensorflow(tmp_path: Path) -> None:
    package = Path(mnist.__file__).parents[2]
    shutil.copytree(package, tmp_path / "lenet_edge", ignore=shutil.ignore_patterns("train.npz"))
    code = (
        "import sys; from lenet_edge.data import mnist; print(len(mnist.load('test')));"
        " assert not [m for m in sys.modules if m in ('tensorflow', 'keras')];"
        " assert not (mnist.FOLDER / 'train.npz').exists()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={}, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout == "10000\n"


def test_pixels_are_divided_by_255_exactly() -> None:
    pixels = np.arange(256, dtype=np.uint8)
    scaled = to_input(pixels)
    assert scaled.dtype == np.float32
    assert np.array_equal(scaled, pixels.astype(np.float32) / np.float32(255))
    assert (scaled.min(), scaled.max()) == (0, 1)


@pytest.mark.costly
def test_packing_checks_the_md5_sums_before_it_writes(tmp_path: Path) -> None:
    """Run `python -m lenet_edge.data.mnist` in a copy of the package, also on invalid files."""
    package = Path(mnist.__file__).parents[2]
    shutil.copytree(package, tmp_path / "lenet_edge")
    packed = {p: tmp_path / f"lenet_edge/data/mnist/{p}.npz" for p in ("train", "test")}
    before = {path: path.read_bytes() for path in packed.values()}
    source = tmp_path / "original"
    source.mkdir()
    for part in ("train", "test"):
        for name, content in original_files(part).items():
            (source / name).write_bytes(content)

    def pack() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lenet_edge.data.mnist", str(source)]
        return subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True)

    labels = source / "train-labels-idx1-ubyte"
    original = labels.read_bytes()
    for wrong in (original[:-1] + b"\x09", gzip.compress(original)):
        labels.write_bytes(wrong)
        done = pack()
        assert done.returncode != 0
        assert "is not the published file" in done.stderr
        assert {path: path.read_bytes() for path in packed.values()} == before

    labels.write_bytes(original)
    packed["train"].unlink()
    assert pack().returncode == 0
    with np.load(packed["train"]) as arrays, np.load(mnist.FOLDER / "train.npz") as embedded:
        assert np.array_equal(arrays["images"], embedded["images"])
        assert np.array_equal(arrays["labels"], embedded["labels"])
