"""Tests of the layer table: it is the same for a model in every format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lenet_edge.data import mnist
from lenet_edge.errors import ModelFileError
from lenet_edge.export.exporter import export
from lenet_edge.inspection import inspect
from lenet_edge.runtimes import _probe
from tests.conftest import LenetEdge, first_images

FILES = ("lenet.keras", "lenet_float32.tflite", "lenet_int8.tflite", "lenet_float32.onnx",
         "lenet_int8.onnx")  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_layers_of_lenet(lenet_edge: LenetEdge, exports: Path, name: str) -> None:
    done = lenet_edge("inspect", exports / name, "--json", "-")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    cropped = name == "lenet_int8.onnx"  # without the values that the pools ignore
    first, second = (24, 10) if cropped else (26, 11)
    assert (facts["parameters"], facts["macs"]) == (60_074, 176_424 if cropped else 199_968)
    expected = [  # weights + biases; weights x positions
        (9 * 6 + 6, 9 * 6 * first**2),
        (9 * 6 * 16 + 16, 9 * 6 * 16 * second**2),
        (400 * 120 + 120, 400 * 120),
        (120 * 84 + 84, 120 * 84),
        (84 * 10 + 10, 84 * 10),
    ]
    layers = [layer for layer in facts["layers"] if layer["macs"]]
    assert [(layer["parameters"], layer["macs"]) for layer in layers] == expected
    assert facts["dense"] == {
        "parameters": sum(parameters for parameters, _ in expected[2:]),
        "macs": sum(macs for _, macs in expected[2:]),
    }
    shapes = [tuple(layer["output_shape"]) for layer in layers]
    assert shapes[2:] == [(None, 120), (None, 84), (None, 10)]


def test_table_fits_and_ends_with_the_dense_layers(lenet_edge: LenetEdge, exports: Path) -> None:
    done = lenet_edge("inspect", exports / "lenet_int8.onnx")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[-1].startswith("Dense layers: 98.4 % of 60,074 parameters, 33.4 % of 176,424")


@pytest.mark.costly
def test_foreign_model_is_the_same_in_each_format(tmp_path: Path) -> None:
    """Depthwise convolutions, batch normalization, and float16 weights."""
    import tensorflow as tf

    model = tf.keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=7)
    model.layers[-1].bias.assign(range(7))  # the converter removes a bias of zeros
    model.save(tmp_path / "foreign.keras")
    images = first_images(mnist.load("test"), 2)
    artifacts = export(tmp_path / "foreign.keras", tmp_path, images, images,
                       precisions=("float32", "float16"))  # fmt: skip
    keras = inspect(tmp_path / "foreign.keras")
    assert sum(layer.parameters for layer in keras) == model.count_params()
    exported = [inspect(artifact.path) for artifact in artifacts]
    assert len(exported) == 4
    for layers in exported:
        assert sum(layer.macs for layer in layers) == sum(layer.macs for layer in keras)
        (dense,) = (layer for layer in layers if layer.dense)
        assert (dense.parameters, dense.macs) == (1280 * 7 + 7, 1280 * 7)
        # The converters fold the normalization into weights and biases.
        kernels = sum(w.shape.num_elements() for w in model.weights if "kernel" in w.path)
        assert kernels < sum(layer.parameters for layer in layers) < model.count_params()


def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "foreign.tflite"
    path.write_bytes(b"\x20\0\0\0TFL3" + bytes(range(256)))
    with pytest.raises(ModelFileError, match=r"foreign\.tflite cannot be inspected: "):
        inspect(path)
    with pytest.raises(ModelFileError, match="no such file"):
        inspect(tmp_path / "none.onnx")


def test_c_files_cannot_be_inspected() -> None:
    with pytest.raises(ModelFileError, match="native files cannot be inspected; inspect the"):
        inspect(_probe.FOLDER / "probe.c")
