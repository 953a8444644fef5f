"""Tests of every format in every precision: size, parity, reproducibility and bad input."""

import dataclasses
import os
import platform
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import Artifact, load_artifact, manifest_path
from lenet_edge.artifacts.reference import reference_path
from lenet_edge.data import mnist
from lenet_edge.data.dataset import Dataset
from lenet_edge.errors import DataError, LenetEdgeError, ModelFileError
from lenet_edge.export import exporter
from lenet_edge.export.onnx import needs_reduced_range
from lenet_edge.runtimes import get_target
from lenet_edge.selection import Pair
from lenet_edge.verify.verify import verify
from tests.conftest import LenetEdge, first_images

Matrix = dict[tuple[str, str], Artifact]

# Maximum bytes without the contract, and maximum accuracy drop in percentage points.
LIMITS = {
    ("tflite", "float32"): (244_000, 0.0),
    ("tflite", "float16"): (126_000, 0.05),
    ("tflite", "dynamic"): (72_100, 0.05),
    ("tflite", "int8"): (70_500, 0.1),
    ("tflite", "int4"): (36_000, 0.1),
    ("tflite", "int16x8"): (74_000, 0.1),
    ("onnx", "float32"): (244_000, 0.0),
    ("onnx", "float16"): (126_000, 0.05),
    ("onnx", "int8"): (70_500, 0.1),
}
CONTRACT_BYTES = 2048


def test_matrix_is_complete(matrix: Matrix) -> None:
    assert set(matrix) == set(LIMITS)


@pytest.mark.parametrize(("format", "precision"), LIMITS)
def test_size(matrix: Matrix, format: str, precision: str) -> None:
    from lenet_edge.artifacts.artifact import contract

    artifact = matrix[format, precision]
    length = len(contract(artifact).encode())
    assert length < CONTRACT_BYTES
    # The metadata entry around the contract needs a few bytes more.
    assert artifact.size_bytes - length <= LIMITS[format, precision][0] + 100


@pytest.mark.parametrize(("format", "precision"), LIMITS)
def test_parity(matrix: Matrix, exports: Path, tmp_path: Path, format: str, precision: str) -> None:
    artifact = matrix[format, precision]
    assert artifact.parent_sha256
    # `exports` has the reference logits of all test images; `matrix` has fewer.
    reference = reference_path(exports, artifact.parent_sha256)
    for path in (artifact.path, manifest_path(artifact.path), reference):
        shutil.copy(path, tmp_path)
    copy = tmp_path / artifact.name
    target = get_target("litert-xnnpack" if format == "tflite" else "onnxruntime-cpu")
    (report,), skipped = verify([Pair(load_artifact(copy), target)])
    assert not skipped
    assert report.accuracy_drop is not None
    assert abs(report.accuracy_drop) <= LIMITS[format, precision][1] + 1e-9
    # With int4 weights and without training, the network of three epochs agreed on 99.54 %.
    assert (report.top1_agreement or 0) >= (0.99 if precision == "int4" else 0.998)


def test_manifest_has_the_settings(matrix: Matrix) -> None:
    assert matrix["onnx", "int8"].settings == ("reduce_range=True",)
    assert matrix["onnx", "int8"].calibration == "first 1000 images of mnist-train"
    assert matrix["tflite", "int16x8"].inputs[0].dtype == "int16"
    assert matrix["tflite", "int8"].outputs[0].dtype == "int8"
    assert matrix["tflite", "dynamic"].inputs[0].dtype == "float32"
    assert matrix["tflite", "dynamic"].calibration is None


def test_reduced_range() -> None:
    assert needs_reduced_range("x86")
    assert not needs_reduced_range("arm")
    if platform.machine() == "x86_64" and Path("/proc/cpuinfo").exists():
        assert needs_reduced_range("auto") == ("vnni" not in Path("/proc/cpuinfo").read_text())


def test_export_in_another_process_is_reproducible(
    matrix: Matrix, exports: Path, tmp_path: Path, lenet_edge: LenetEdge
) -> None:
    done = lenet_edge(
        "export", exports / "lenet.keras", "--all", "--cpu", "x86", "--output-dir", tmp_path
    )
    assert done.returncode == 0, done.stderr
    for artifact in matrix.values():
        assert (tmp_path / artifact.name).read_bytes() == artifact.path.read_bytes(), artifact.name


@pytest.mark.costly
def test_all_leaves_out_what_the_model_cannot_have(
    lenet_edge_here: LenetEdge, tmp_path: Path
) -> None:
    import tensorflow as tf

    layers = tf.keras.layers
    convolutions = [
        tf.keras.Input((28, 28, 1)), layers.Conv2D(10, 9, 9, use_bias=False),
        layers.BatchNormalization(name="norm"), layers.ReLU(), layers.GlobalAveragePooling2D(),
    ]  # fmt: skip
    tf.keras.Sequential(convolutions).save(tmp_path / "small.keras")
    arguments = ("export", "small.keras", "--format", "native", "--output-dir", "out")
    done = lenet_edge_here(*arguments, "--all")
    assert done.returncode == 0, done.stderr
    files = {path.name for path in (tmp_path / "out").glob("*.c")}
    assert files == {"small_native_float32.c", "small_native_int8.c"}
    text = " ".join(done.stderr.split())
    assert "Left out native dynamic: layer norm (BatchNormalization) is not covered" in text
    assert "Left out native int4: it has no dense layer" in text
    assert lenet_edge_here(*arguments, "--dynamic").returncode == 1


def test_precision_of_no_format(exports: Path, tmp_path: Path, test_part: Dataset) -> None:
    with pytest.raises(LenetEdgeError, match="dynamic is not available for onnx; add another"):
        exporter.export(
            exports / "lenet.keras", tmp_path, test_part, test_part, ("onnx",), ("dynamic",)
        )


def resized(dataset: Dataset, side: int) -> Dataset:
    images = np.zeros((len(dataset), side, side, 1), np.uint8)
    return dataclasses.replace(dataset, images=images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: first_images(data, 1), "give 2 or more"),
        (lambda data: resized(data, 32), "have shape 32 x 32 x 1 and the model takes 28 x 28 x 1"),
        (
            lambda data: dataclasses.replace(data, images=np.zeros_like(data.images)),
            "go from 0 to 0",
        ),
    ],
)
def test_unusable_calibration_images(
    exports: Path, tmp_path: Path, change: object, message: str
) -> None:
    assert callable(change)
    test = first_images(mnist.load("test"), 10)
    with pytest.raises(DataError, match=message):
        exporter.export(exports / "lenet.keras", tmp_path, change(test), test, precisions=("int8",))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.full((3, 28, 28, 1), 200.0)}, "go from 0.784314 to 0.784314"),
        ({"images": np.arange(3 * 784.0).reshape(3, 28, 28, 1)}, "the model takes 0 to 1"),
        ({"images": np.full((3, 28, 28, 1), np.nan)}, "have 2352 values that are not finite"),
        ({"images": np.full((3, 28, 28, 1), 300, np.int32)}, "pixels of 300 to 300"),
        ({"images": np.array(["a", "b"])}, "give numbers of shape"),
        ({"images": np.float32(1)}, r"float32 of shape \(\); give numbers"),
        ({"a": np.zeros(1), "b": np.zeros(1)}, "no array named images"),
    ],
)
def test_unusable_calibration_files(
    exports: Path, tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "images.npz", **arrays)
    test = first_images(mnist.load("test"), 10)
    with pytest.raises(DataError, match=message):
        exporter.export(
            exports / "lenet.keras",
            tmp_path / "out",
            test,
            test,
            precisions=("int8",),
            options=exporter.Options(calibration_file=tmp_path / "images.npz"),
        )


def test_file_that_is_not_a_calibration_file(exports: Path, lenet_edge_here: LenetEdge) -> None:
    done = lenet_edge_here(
        "export", exports / "lenet.keras", "--int8", "--calibration", exports / "lenet.keras.json"
    )
    assert done.returncode == 1
    assert "cannot be read as .npz" in done.stderr.splitlines()[-1]


def test_pixels_calibrate_like_scaled_images(exports: Path, tmp_path: Path) -> None:
    test = first_images(mnist.load("test"), 10)
    artifacts: list[Artifact] = []
    for name, images in (("pixels", test.images), ("scaled", test.images / np.float32(255))):
        np.savez(tmp_path / "images.npz", images=images)
        artifacts += exporter.export(
            exports / "lenet.keras",
            tmp_path / name,
            test,
            test,
            ("tflite",),
            ("int8",),
            options=exporter.Options(calibration_file=tmp_path / "images.npz"),
        )
    assert artifacts[0].sha256 == artifacts[1].sha256
    assert artifacts[0].calibration == "10 images of images.npz"


def test_model_with_two_inputs(tmp_path: Path, test_part: Dataset) -> None:
    import keras

    inputs = [keras.Input((4,)), keras.Input((4,))]
    model = keras.Model(inputs, keras.layers.Add()(inputs))
    model.save(tmp_path / "two.keras")
    with pytest.raises(ModelFileError, match="has 2 inputs and 1 outputs"):
        exporter.export(tmp_path / "two.keras", tmp_path, test_part, test_part)


def test_layer_that_cannot_be_exported_is_named(tmp_path: Path, test_part: Dataset) -> None:
    import keras
    from keras import layers

    odd = layers.Discretization(bin_boundaries=[0.2, 0.5], name="odd")
    kept = [layers.Flatten(), odd, layers.Rescaling(0.5), layers.Dense(10)]
    model = keras.Sequential([keras.Input((28, 28, 1)), *kept])
    model.save(tmp_path / "odd.keras")
    with pytest.raises(ModelFileError, match=r"layer odd \(Discretization\) cannot be .* onnx"):
        exporter.export(tmp_path / "odd.keras", tmp_path, test_part, test_part, ("onnx",))


def test_old_file_survives_a_simulated_full_disk(
    exports: Path, tmp_path: Path, test_part: Dataset
) -> None:
    old = tmp_path / "lenet_float32.tflite"
    old.write_bytes(b"the old file")
    (tmp_path / "lenet.keras").write_bytes((exports / "lenet.keras").read_bytes())
    part, limits = first_images(test_part, 10), resource.getrlimit(resource.RLIMIT_FSIZE)
    # Like a full disk: OSError in the middle of a file.
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(LenetEdgeError, match=f"^cannot write {old}: "):
            exporter.export(tmp_path / "lenet.keras", tmp_path, part, part, ("tflite",))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert old.read_bytes() == b"the old file"
    assert not list(tmp_path.glob(".tmp-*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_old_file_survives_a_full_disk(exports: Path, tmp_path: Path, test_part: Dataset) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine allows no mount")
    try:
        (disk / "lenet.keras").write_bytes((exports / "lenet.keras").read_bytes())
        old = disk / "lenet_float32.tflite"
        old.write_bytes(b"the old file" * 20_000)
        part = first_images(test_part, 10)
        with pytest.raises(LenetEdgeError, match=f"cannot write {old}: No space left on device"):
            exporter.export(disk / "lenet.keras", disk, part, part, ("tflite",))
        assert old.read_bytes() == b"the old file" * 20_000
        assert not list(disk.glob(".tmp-*"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)
