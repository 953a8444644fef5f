"""Tests of the layer table: it is the same for a model in every format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_edge.data import mnist
from lenet_edge.errors import ModelFileError
from lenet_edge.export.exporter import export
from lenet_edge.inspection import inspect, inspect_graph, layers_of, total
from lenet_edge.runtimes import _probe
from lenet_edge.runtimes._tflite_operators import count_macs
from tests.conftest import LenetEdge, first_images

FILES = ("lenet.keras", "lenet_float32.tflite", "lenet_int8.tflite", "lenet_float32.onnx",
         "lenet_int8.onnx")  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_layers_of_lenet(lenet_edge_here: LenetEdge, exports: Path, name: str) -> None:
    done = lenet_edge_here("inspect", exports / name, "--json", "-")
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


def test_table_fits_and_ends_with_the_dense_layers(
    lenet_edge_here: LenetEdge, exports: Path
) -> None:
    done = lenet_edge_here("inspect", exports / "lenet_int8.onnx")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[-1].startswith("Dense layers: 98.4 % of 60,074 parameters, 33.4 % of 176,424")


@pytest.mark.costly
def test_foreign_model_is_the_same_in_each_format(tmp_path: Path) -> None:
    """Depthwise convolutions, batch normalization, and float16 weights."""
    import tensorflow as tf

    layers = tf.keras.layers
    model = tf.keras.Sequential([
        layers.Input((32, 32, 3)),
        layers.Conv2D(8, 3, strides=2, use_bias=False), layers.BatchNormalization(), layers.ReLU(6),
        layers.DepthwiseConv2D(3, use_bias=False), layers.BatchNormalization(), layers.ReLU(6),
        layers.Conv2D(24, 1, use_bias=False), layers.BatchNormalization(),
        layers.GlobalAveragePooling2D(), layers.Dense(7),
    ])  # fmt: skip
    model.layers[-1].bias.assign(range(7))  # the converter removes a bias of zeros
    model.save(tmp_path / "foreign.keras")
    images = first_images(mnist.load("test"), 2)
    artifacts = export(tmp_path / "foreign.keras", tmp_path, images, images,
                       precisions=("float32", "float16"))  # fmt: skip
    keras = layers_of(tmp_path / "foreign.keras", "keras")  # a worker would import TensorFlow
    assert total(layer.parameters for layer in keras) == model.count_params()
    exported = [inspect(artifact.path) for artifact in artifacts]
    assert len(exported) == 4
    for found in exported:
        macs = total(layer.macs for layer in found)
        assert macs == total(layer.macs for layer in keras) is not None
        (dense,) = (layer for layer in found if layer.dense)
        assert (dense.parameters, dense.macs) == (24 * 7 + 7, 24 * 7)
        # The converters fold the normalization into weights and biases.
        kernels = sum(w.shape.num_elements() for w in model.weights if "kernel" in w.path)
        parameters = total(layer.parameters for layer in found)
        assert parameters is not None
        assert kernels < parameters < model.count_params()


def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "foreign.tflite"
    path.write_bytes(b"\x20\0\0\0TFL3" + bytes(range(256)))
    with pytest.raises(ModelFileError, match=r"foreign\.tflite cannot be inspected: "):
        inspect(path)
    with pytest.raises(ModelFileError, match="no such file"):
        inspect(tmp_path / "none.onnx")


def test_c_file_without_a_list_of_layers() -> None:
    with pytest.raises(ModelFileError, match="it does not list its layers; export it again"):
        inspect(_probe.FOLDER / "probe.c")


def view_onnx(shape: list[Any], kind: str = "Gemm", domain: str = "") -> Any:
    """Return a network as torch.onnx.export makes it of x.view(x.size(0), -1).

    A Reshape flattens the images to a shape that other nodes compute from the batch.
    """
    from onnx import TensorProto, helper, numpy_helper

    floats = {"cw": (4, 1, 3, 3), "fw": (10, 4 * 26 * 26), "fb": (10,)}
    weights = [
        *(numpy_helper.from_array(np.ones(size, "f4"), name) for name, size in floats.items()),
        numpy_helper.from_array(np.array(0), "zero"),
        numpy_helper.from_array(np.array([0]), "axes"),
        numpy_helper.from_array(np.array([-1]), "minus1"),
    ]
    nodes = [
        helper.make_node("Conv", ["input", "cw"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Shape", ["r"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["b"], axis=0),
        helper.make_node("Unsqueeze", ["b", "axes"], ["b1"]),
        helper.make_node("Concat", ["b1", "minus1"], ["shape"], axis=0),
        helper.make_node("Reshape", ["r", "shape"], ["f"]),
        helper.make_node(kind, ["f", "fw", "fb"], ["logits"], domain=domain, transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "view",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [shape[0], 10])],
        weights,
    )
    opsets = [helper.make_opsetid("", 13), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize("batch", ["batch", 8])
def test_computed_shapes(tmp_path: Path, batch: Any) -> None:
    """The shapes follow from the batch, although onnx alone infers none behind the Reshape."""
    import onnx

    onnx.save(view_onnx([batch, 1, 28, 28]), tmp_path / "view.onnx")
    layers = {layer.kind: layer for layer in layers_of(tmp_path / "view.onnx", "onnx")}
    assert list(layers) == ["Conv", "Relu", "Reshape", "Gemm"]  # without those of the shapes
    assert (layers["Conv"].parameters, layers["Conv"].macs) == (36, 24_336)
    assert (layers["Gemm"].parameters, layers["Gemm"].macs) == (27_050, 27_040)
    size = 8 if batch == 8 else None
    assert [layers[kind].output_shape for kind in ("Conv", "Reshape", "Gemm")] == [
        (size, 4, 26, 26), (size, 2704), (size, 10),
    ]  # fmt: skip


def test_what_cannot_be_counted_has_no_share(tmp_path: Path, lenet_edge_here: LenetEdge) -> None:
    """Images of any size, or an operator of a vendor."""
    import onnx

    onnx.save(view_onnx(["batch", 1, "height", "width"]), tmp_path / "sizes.onnx")
    onnx.save(view_onnx(["batch", 1, 28, 28], "FusedGemm", "com.vendor"), tmp_path / "vendor.onnx")
    for name, kind in (("sizes", "Conv"), ("vendor", "FusedGemm")):
        done = lenet_edge_here("inspect", f"{name}.onnx", "--json", f"{name}.json")
        assert done.returncode == 0, done.stderr
        facts = json.loads((tmp_path / f"{name}.json").read_text())
        assert facts["macs"] is None
        row = next(line for line in done.stdout.splitlines() if f" {kind} " in line)
        assert row.split()[-2:] == ["?", "–"]
        assert f"Not counted: the MACs of {kind}" in done.stdout
        assert " MACs" not in done.stdout.split("Dense layers")[1]


def test_weights_in_other_files_count(tmp_path: Path, lenet_edge_here: LenetEdge) -> None:
    import onnx

    onnx.save(view_onnx(["batch", 1, 28, 28]), tmp_path / "one.onnx")
    onnx.save(view_onnx(["batch", 1, 28, 28]), tmp_path / "two.onnx",
              save_as_external_data=True, location="two.data", size_threshold=64)  # fmt: skip
    one, two = (
        json.loads(lenet_edge_here("inspect", f"{name}.onnx", "--json", "-").stdout)
        for name in ("one", "two")
    )
    assert one["layers"] == two["layers"]
    files = [tmp_path / "two.onnx", tmp_path / "two.data"]
    assert two["size_bytes"] == sum(path.stat().st_size for path in files) > 108_000


@pytest.mark.parametrize("layout", [0, 1])
def test_macs_of_a_recurrent_onnx(tmp_path: Path, layout: int) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = {"w": (1, 80, 28), "r": (1, 80, 20)}
    source = "x" if layout else "t"
    nodes = [helper.make_node("LSTM", [source, "w", "r"], ["y"], hidden_size=20, layout=layout)]
    if source == "t":  # the steps come first
        nodes.insert(0, helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]))
    graph = helper.make_graph(
        nodes,
        "lstm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 28, 28])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones(size, "f4"), name) for name, size in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.save(model, tmp_path / "lstm.onnx")
    lstm = layers_of(tmp_path / "lstm.onnx", "onnx")[-1]
    assert (lstm.parameters, lstm.macs) == (80 * 48, 28 * 4 * 20 * (28 + 20))


@pytest.mark.parametrize(
    ("kind", "inputs", "output", "macs"),
    [
        # Source: tensorflow/lite/kernels. -1 is an input that is left out.
        (
            "UNIDIRECTIONAL_SEQUENCE_LSTM",
            [(1, 28, 28), *[(20, 28)] * 4, *[(20, 20)] * 4, -1, -1, -1, *[(20,)] * 4, -1, -1,
             (1, 20), (1, 20), -1, -1, -1, -1],
            (1, 28, 20),
            28 * 4 * 20 * (28 + 20),
        ),
        ("SVDF", [(1, 40), (64, 40), (64, 10), (64,), (1, 640)], (1, 64), 64 * 40 + 64 * 10),
        ("FULLY_CONNECTED", [(1, 28, 20), (10, 20), -1], (1, 28, 10), 28 * 200),
        ("BATCH_MATMUL", [(1, 2, 8, 4), (1, 2, 4, 6)], (1, 2, 8, 6), 2 * 8 * 4 * 6),
        ("SOFTMAX", [(1, 10)], (1, 10), 0),
        ("WHILE", [(1, 10)], (1, 10), None),
        ("BIDIRECTIONAL_SEQUENCE_LSTM", [(1, 10)], (1, 10), None),
        ("TFLite_Detection_PostProcess", [(1, 10)], (1, 10), None),
    ],
)  # fmt: skip
def test_macs_of_a_tflite_operator(kind: str, inputs: list[Any], output: Any, macs: Any) -> None:
    for batch_size in (1, 3):
        tensors = {
            index: {"shape": np.array([batch_size, *shape[1:]] if shape[0] == 1 else shape)}
            for index, shape in enumerate([*inputs, output])
            if shape != -1
        }
        operator = {
            "op_name": kind,
            "inputs": [-1 if shape == -1 else index for index, shape in enumerate(inputs)],
            "outputs": [len(inputs)],
        }
        assert count_macs(operator, tensors, batch_size) == macs


@pytest.mark.costly
def test_recurrent_and_shared_layers(tmp_path: Path) -> None:
    """An LSTM in Keras; its .tflite file has a loop that cannot be counted."""
    import tensorflow as tf

    layers = tf.keras.layers
    lstm = tf.keras.Sequential(
        [
            tf.keras.Input((28, 28)),
            layers.LSTM(20, return_sequences=True),
            layers.Bidirectional(layers.GRU(5)),
            layers.Dense(10, activation="softmax"),
        ]
    )
    lstm.save(tmp_path / "lstm.keras")
    found = layers_of(tmp_path / "lstm.keras", "keras")
    sizes = [(layer.parameters, layer.macs) for layer in found]
    gru = 2 * (3 * 5 * (20 + 5))
    assert sizes == [(3_920, 107_520), (gru + 2 * 2 * 15, 28 * gru), (110, 100)]
    inputs = tf.keras.Input((8,))
    dense = layers.Dense(8)
    shared = tf.keras.Model(inputs, layers.Add()([dense(dense(inputs)), dense(inputs)]))
    shared.save(tmp_path / "shared.keras")
    first, _ = layers_of(tmp_path / "shared.keras", "keras")
    assert (first.parameters, first.macs) == (72, 3 * 64)

    run = tf.function(lambda images: lstm(images, training=False))
    graph = run.get_concrete_function(tf.TensorSpec((1, 28, 28)))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph])
    (tmp_path / "lstm.tflite").write_bytes(converter.convert())
    exported = inspect_graph(tmp_path / "lstm.tflite")
    assert {layer.macs for layer in exported.layers if layer.kind == "WHILE"} == {None}
    assert exported.macs is None
    kernels = sum(w.shape.num_elements() for w in lstm.weights if "kernel" in w.path)
    assert exported.parameters is not None  # the converter removes biases of zeros
    assert kernels < exported.parameters < lstm.count_params()


def test_a_size_below_0_is_free(tmp_path: Path) -> None:
    """Paddle's converter writes -1. Such sizes gave a negative number of MACs."""
    import onnx

    onnx.save(view_onnx([-1, 1, -1, -1]), tmp_path / "paddle.onnx")
    graph = inspect_graph(tmp_path / "paddle.onnx")
    assert graph.inputs is not None
    assert graph.inputs[0].shape == (None, 1, None, None)
    assert (graph.macs, graph.counted_macs) == (None, 0)
    assert graph.not_counted == ("Conv of a free or unknown size", "Gemm of a free or unknown size")
