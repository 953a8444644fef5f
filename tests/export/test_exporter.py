"""Tests of the export of one checkpoint: reproducible bytes and true manifests."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import Artifact, load_artifact
from lenet_edge.artifacts.reference import Reference, reference_path
from lenet_edge.data import mnist
from lenet_edge.data.dataset import Dataset, to_input
from lenet_edge.errors import ModelFileError
from lenet_edge.export.calibration import NUM_IMAGES
from lenet_edge.export.exporter import export
from tests.conftest import PRECISIONS, first_images

MODELS = [
    f"lenet_{precision}.{format}" for precision in PRECISIONS for format in ("tflite", "onnx")
]


@pytest.fixture(scope="module")
def second_export(exports: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second export, with other test images, and other training images after the first 1,000."""
    training, test = mnist.load("train"), mnist.load("test")
    images = training.images.copy()
    images[NUM_IMAGES:] = 255
    folder = tmp_path_factory.mktemp("again")
    noise = np.random.default_rng(0).integers(0, 256, (50, 28, 28, 1), np.uint8)
    export(
        exports / "lenet.keras",
        folder,
        dataclasses.replace(training, images=images),
        dataclasses.replace(first_images(test, 50), images=noise),
        precisions=PRECISIONS,
    )
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_two_exports_give_the_same_bytes(exports: Path, second_export: Path, name: str) -> None:
    """The test images differed, so they cannot have been used for calibration."""
    assert (second_export / name).read_bytes() == (exports / name).read_bytes()


def test_calibration_agrees_with_the_manifest(
    exports: Path, tmp_path: Path, test_part: Dataset
) -> None:
    """Other images among the first 1,000 change the int8 file, but not the float32 file."""
    training = mnist.load("train")
    images = training.images[:NUM_IMAGES] // np.uint8(2)
    dark = dataclasses.replace(first_images(training, NUM_IMAGES), images=images, name="dark")
    artifacts = export(
        exports / "lenet.keras",
        tmp_path,
        dark,
        first_images(test_part, 10),
        ("tflite",),
        PRECISIONS,
    )
    for artifact in artifacts:
        same = artifact.path.read_bytes() == (exports / artifact.name).read_bytes()
        assert same == (artifact.precision == "float32")
    assert [artifact.calibration for artifact in artifacts] == [None, "first 1000 images of dark"]


@pytest.mark.parametrize("name", MODELS)
def test_manifest_facts(exports: Path, exported: Callable[[str], Artifact], name: str) -> None:
    artifact = exported(name)
    content = (exports / name).read_bytes()
    assert artifact.sha256 == hashlib.sha256(content).hexdigest()
    assert artifact.size_bytes == len(content)
    checkpoint = (exports / "lenet.keras").read_bytes()
    assert artifact.parent_sha256 == hashlib.sha256(checkpoint).hexdigest()
    assert f"lenet_{artifact.precision}.{artifact.format}" == name
    assert artifact.batch_size is None
    assert artifact.inputs[0].shape == (None, 28, 28, 1)
    assert artifact.outputs[0].shape == (None, 10)
    assert artifact.labels == tuple("0123456789")
    assert artifact.preprocessing.scale == (1 / 255,)
    if artifact.precision == "int8":
        assert artifact.calibration == f"first {NUM_IMAGES} images of mnist-train"
    else:
        assert artifact.calibration is None


def test_int8_files_have_at_most_a_third_of_the_size(exported: Callable[[str], Artifact]) -> None:
    for format in ("tflite", "onnx"):
        small, large = (exported(f"lenet_{p}.{format}").size_bytes for p in ("int8", "float32"))
        assert small < large / 3


def test_reference_equals_keras(exports: Path, test_part: Dataset) -> None:
    import tensorflow as tf

    checkpoint = load_artifact(exports / "lenet.keras")
    reference = Reference.load(reference_path(exports, checkpoint.sha256))
    assert reference.checkpoint_sha256 == checkpoint.sha256
    assert reference.dataset == test_part.name
    assert reference.logits.shape == (10_000, 10)
    model = tf.keras.models.load_model(checkpoint.path)
    logits = model(to_input(test_part.images[:300])).numpy()
    np.testing.assert_allclose(reference.logits[:300], logits, atol=1e-5, rtol=0)


def test_folder_is_complete(second_export: Path, exports: Path) -> None:
    for name in ("lenet.keras", "lenet.keras.json"):
        assert (second_export / name).read_bytes() == (exports / name).read_bytes()
    assert not [path.name for path in second_export.iterdir() if path.name.startswith(".tmp")]


def test_file_that_is_not_a_checkpoint_is_refused(
    exports: Path, tmp_path: Path, test_part: Dataset
) -> None:
    with pytest.raises(ModelFileError, match=r"not a \.keras checkpoint; export needs"):
        export(exports / "lenet_int8.tflite", tmp_path, test_part, test_part)
    assert not list(tmp_path.iterdir())
