"""Export to ncnn: the two files compute the numbers of the float model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import describe_file
from lenet_edge.artifacts.ncnn_file import read_layers
from lenet_edge.errors import ModelFileError
from lenet_edge.export import ncnn
from lenet_edge.export.converter import ConversionRequest
from lenet_edge.export.onnx_model import OnnxModel, _run, open_graph
from lenet_edge.inspection.ncnn import read_graph
from lenet_edge.runtimes import _probe, get_target, open_session
from tests import onnx_models
from tests.conftest import LenetEdge
from tests.export.onnx_networks import Network

ncnn_package = pytest.importorskip("ncnn")
pytestmark = pytest.mark.costly
FILES = [path for model in onnx_models.MODELS for path in model.paths[:1]]


def files_of(model: Any, folder: Path, precision: str, values: Any) -> Path:
    """Convert a model, and return the path of its .param file."""
    converted = ncnn.convert(ConversionRequest(model, precision, tuple(values), name="network"))
    path = folder / f"network_{precision}.param"
    path.write_bytes(converted.content)
    path.with_suffix(".bin").write_bytes(converted.parts[".bin"])
    assert converted.tensors
    return path


def outputs(path: Path, precision: str, values: Any) -> dict[str, Any]:
    """Run a .param file that has no description; return images with their channels first."""
    bare = describe_file(
        path, precision=precision, batch_size=None, inputs=(), outputs=(),
        parent_sha256=None, converter="", calibration=None,
    )  # fmt: skip
    session = open_session(bare, get_target("ncnn-cpu"))
    named = zip((spec.name for spec in session.input_specs), values, strict=True)
    session.prepare(dict(named))
    session.infer()
    found = session.outputs()
    session.close()
    return {name: np.moveaxis(v, 3, 1) if v.ndim == 4 else v for name, v in found.items()}


def compare(source: Path, folder: Path, precision: str, bound: float) -> list[str]:
    """Compare a file with its .onnx file; return the kinds of its layers."""
    model = OnnxModel(source)
    generator = np.random.default_rng(0)
    sizes = [[size or 0 for size in entry.shape[1:]] for entry in model.inputs]
    values = [generator.random((3, *shape), np.float32) for shape in sizes]
    path = files_of(model, folder, precision, values)
    found = outputs(path, precision, values)
    arranged = [e.arrange(v) for e, v in zip(model.inputs, values, strict=True)]
    expected = _run(open_graph(model.graph), *arranged)
    names = model.end_names[1]
    assert sorted(found) == sorted(names)
    for name, wanted in zip(names, expected, strict=True):
        error = np.abs(found[name].reshape(wanted.shape) - wanted).max()
        assert error <= bound * np.abs(wanted).max(), name
    return [layer.kind for layer in read_layers(path)]


@pytest.mark.parametrize(("precision", "bound"), [("float32", 1e-5), ("int8", 0.08)])
@pytest.mark.parametrize("source", FILES, ids=lambda path: path.stem)
def test_classifiers_of_pytorch_agree(
    source: Path, precision: str, bound: float, tmp_path: Path
) -> None:
    kinds = compare(source, tmp_path, precision, bound)
    assert "Permute" not in kinds


def operators() -> Network:
    """A network of the operators that the classifiers do not have."""
    network = Network(("batch", 3, 12, 10))
    values = network.random.standard_normal
    network.add("Mul", network.value, network.constant(np.float32(2)))
    network.add("Sub", network.constant(values((1, 3, 1, 1)).astype(np.float32)), network.value)
    network.conv(5, 3, 3, auto_pad="SAME_LOWER", strides=[2, 1])
    network.add("PRelu", network.value, network.constant(np.full((5, 1, 1), 0.2, np.float32)))
    network.add("Pad", network.value, network.constant(np.array([0, 0, 1, 0, 0, 0, 2, 1])))
    network.add("AveragePool", kernel_shape=[2, 3], strides=[1, 2], pads=[1, 1, 1, 1])
    shared = network.conv(6, 5, 3, dilations=[2, 1], pads=[2, 1, 2, 1])
    left = network.add("HardSwish", shared)
    network.add("LeakyRelu", shared, alpha=0.3)
    network.add("Concat", left, network.value, axis=1)
    network.conv(12, 12, 3, group=3, pads=[1] * 4)
    network.add("Elu")
    scaled = network.value
    network.add("ReduceMean", axes=[2, 3], keepdims=1)
    network.add("Sigmoid")
    network.add("Mul", scaled, network.value)
    network.add("Transpose", perm=[0, 2, 3, 1])
    network.add("MatMul", network.value, network.constant(values((12, 12)).astype(np.float32)))
    return network


def end(network: Network) -> Network:
    """Add the end of a classifier."""
    network.add("Transpose", perm=[0, 3, 1, 2])
    network.add("Resize", network.value, "", network.constant(np.array([1, 1, 2, 2], np.float32)),
                mode="nearest")  # fmt: skip
    network.add("Clip", network.value, network.constant(np.float32(-2)))
    network.add("GlobalMaxPool")
    network.add("Flatten", axis=1)
    network.add("Softmax", axis=1)
    return network


def test_other_operators_agree(tmp_path: Path) -> None:
    network = operators()
    network.nodes.pop()
    network.value = network.nodes[-1].output[0]
    kinds = compare(end(network).save(tmp_path / "all.onnx"), tmp_path, "float32", 1e-5)
    assert {"Padding", "PReLU", "Concat", "Interp", "MemoryData", "Split"} <= {*kinds}


def test_uncovered_operator_is_named(tmp_path: Path, lenet_edge_here: LenetEdge) -> None:
    source = end(operators()).save(tmp_path / "odd.onnx")
    refused = lenet_edge_here("export", source, "--format", "ncnn", "--mean", "0", "--std", "1")
    assert refused.returncode == 1
    message = " ".join(refused.stderr.split())
    assert "operator MatMul (MatMul_" in message
    assert "is not covered by the ncnn format (a product of 4 axes)" in message
    assert not list(tmp_path.glob("exported/*.bin"))


def test_channels_fill_whole_vectors(tmp_path: Path) -> None:
    """The 6 filters of LeNet become 8, and its results stay."""
    source = onnx_models.LENET.paths[0]
    model = OnnxModel(source)
    image = np.random.default_rng(1).random((1, *[s or 0 for s in model.input_shape[1:]]))
    path = files_of(model, tmp_path, "float32", [image])
    filters = [layer.number(0) for layer in read_layers(path) if layer.kind == "Convolution"]
    assert filters == [8, 16]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("7767517", "7767518", r"its first line is not 7767517"),
        ("3 3\n", "9 3\n", r"it has \d lines for 9 layers"),
        ("0=16", "0=inf", r"'inf' is no finite number"),
        ("=4,1,16,1,1", "=9,1,16,1,1", r"an array of layer 'Reshape_1' has another length"),
        ("1 1 image", "1 1 other", r"a layer reads 'other' before it is computed"),
        ("0 1 image", "7 1 image", r"the line of layer 'Input_0' is too short"),
        ("0=16", "\x00", r"invalid literal"),
    ],
)
def test_damaged_text_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (_probe.FOLDER / "probe.param").read_text()
    path = tmp_path / "probe.param"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ModelFileError, match=rf"probe\.param is damaged \({message}"):
        read_graph(path)


def test_keras_network_agrees(tmp_path: Path) -> None:
    import tensorflow as tf

    k = tf.keras.layers
    image = x = tf.keras.Input((9, 11, 3))
    x = k.ZeroPadding2D(((1, 2), (0, 3)))(k.Conv2D(4, 3)(k.Rescaling(2.0, -1.0)(x)))
    x = k.BatchNormalization()(k.DepthwiseConv2D(3, depth_multiplier=2, activation="relu6")(x))
    side = k.MaxPooling2D(2, padding="same")(x)
    x = k.Conv2D(6, 3, 2, padding="same", activation="swish")(x)
    x = k.Flatten()(k.Concatenate()([x, side]))
    model = tf.keras.Model(image, k.Dense(4, activation="softmax")(k.Dense(7)(x)))
    values = np.random.default_rng(0).random((3, 9, 11, 3), np.float32)
    path = files_of(model, tmp_path, "float32", [values])
    (found,) = outputs(path, "float32", [values]).values()
    np.testing.assert_allclose(found, model(values).numpy(), atol=1e-5, rtol=0)
    # Only the flattening moves values.
    assert [layer.kind for layer in read_layers(path)].count("Permute") <= 1
