"""Tests of the exported graphs: they are minimal, whatever version a converter has."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from onnx import TensorProto, helper, numpy_helper

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.data import mnist
from lenet_edge.data.dataset import to_input
from lenet_edge.export import exporter
from lenet_edge.export.checkpoint import load_checkpoint, pair_pixels
from lenet_edge.export.onnx_crop import crop
from lenet_edge.export.onnx_graph import clean
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.selection import Pair
from lenet_edge.verify.expected import infer_in_worker
from tests.conftest import first_images

Matrix = dict[tuple[str, str], Artifact]
LENET = ["CONV_2D", "MAX_POOL_2D"] * 2 + ["RESHAPE"] + ["FULLY_CONNECTED"] * 3
LENET_ONNX = ["Reshape"] + ["Conv", "Relu", "MaxPool"] * 2 + ["Reshape"]
LENET_ONNX += ["Gemm", "Relu", "Gemm", "Relu", "Gemm"]


def tflite_operators(path: Path) -> list[str]:
    interpreter = Interpreter(
        str(path),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    return [operator["op_name"] for operator in interpreter._get_ops_details()]


def onnx_operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("precision", ["float32", "dynamic", "int8", "int4", "int16x8"])
def test_tflite_operators(matrix: Matrix, precision: str) -> None:
    assert tflite_operators(matrix["tflite", precision].path) == LENET


def test_float16_tflite_adds_only_dequantize_of_weights(matrix: Matrix) -> None:
    operators = tflite_operators(matrix["tflite", "float16"].path)
    assert operators == ["DEQUANTIZE"] * (len(operators) - len(LENET)) + LENET


def test_onnx_operators(matrix: Matrix) -> None:
    assert onnx_operators(matrix["onnx", "float32"].path) == LENET_ONNX
    assert onnx_operators(matrix["onnx", "float16"].path) == ["Cast", *LENET_ONNX, "Cast"]


def test_int8_onnx_operators(matrix: Matrix) -> None:
    operators = onnx_operators(matrix["onnx", "int8"].path)
    kept = [name for name in operators if name not in ("QuantizeLinear", "DequantizeLinear")]
    # The ranges of the activations begin at zero, which replaces the Relus. The logits stay float.
    assert operators[-1] == "Gemm"
    assert kept == ["Reshape", "Slice", *(name for name in LENET_ONNX[1:] if name != "Relu")]


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_onnx_names_and_shapes(matrix: Matrix, precision: str) -> None:
    model = onnx.load(matrix["onnx", precision].path)
    onnx.checker.check_model(model, full_check=True)

    def names_and_shapes(values: Any) -> list[tuple[str, list[int | str]]]:
        return [
            (v.name, [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim])
            for v in values
        ]

    assert names_and_shapes(model.graph.input) == [("image", ["batch", 28, 28, 1])]
    assert names_and_shapes(model.graph.output) == [("logits", ["batch", 10])]
    assert {opset.domain for opset in model.opset_import} == {""}


@pytest.mark.parametrize("precision", exporter.PRECISIONS)
def test_tflite_names_and_resizing(matrix: Matrix, precision: str) -> None:
    artifact = matrix["tflite", precision]
    assert artifact.inputs[0].name == "image"
    assert artifact.outputs[0].name == "logits"
    assert artifact.inputs[0].shape == (None, 28, 28, 1)
    interpreter = Interpreter(str(artifact.path))
    for batch_size in (7, 1, 32):
        interpreter.resize_tensor_input(
            interpreter.get_input_details()[0]["index"], (batch_size, 28, 28, 1)
        )
        interpreter.allocate_tensors()
        interpreter.invoke()
        assert interpreter.get_output_details()[0]["shape"].tolist() == [batch_size, 10]


def test_fixed_batch(exports: Path, tmp_path: Path) -> None:
    test = first_images(mnist.load("test"), 10)
    options = exporter.Options(batch_size=4)
    artifacts = exporter.export(exports / "lenet.keras", tmp_path, test, test, options=options)
    for artifact in artifacts:
        assert artifact.batch_size == 4
        assert artifact.inputs[0].shape == (4, 28, 28, 1)
        assert artifact.outputs[0].shape == (4, 10)
        assert artifact.name == f"lenet_float32_b4.{artifact.format}"
    assert tflite_operators(artifacts[0].path) == LENET
    assert onnx_operators(artifacts[1].path) == LENET_ONNX
    with closing(open_session(artifacts[0], get_target("litert-xnnpack"))) as session:
        delegation = session.delegation
        assert delegation is not None
        assert (delegation.delegate, delegation.nodes_taken, delegation.nodes_total) == (
            "XNNPACK", len(LENET), len(LENET),
        )  # fmt: skip
    expected = load_checkpoint(exports / "lenet.keras")(to_input(test.images)).numpy()
    for artifact, target in zip(artifacts, ("litert-xnnpack", "onnxruntime-cpu"), strict=True):
        for count in (10, 3):  # in both cases the last batch is not full
            logits, _ = infer_in_worker(Pair(artifact, get_target(target)), test.images[:count], 1)
            np.testing.assert_allclose(logits, expected[:count], atol=1e-4)


@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_fixed_batch_in_int8(exports: Path, tmp_path: Path, format: str) -> None:
    test = first_images(mnist.load("test"), 10)  # not a multiple of the batch
    (artifact,) = exporter.export(
        exports / "lenet.keras",
        tmp_path,
        test,
        test,
        (format,),
        ("int8",),
        exporter.Options(batch_size=4),
    )
    assert artifact.inputs[0].shape == (4, 28, 28, 1)


@pytest.mark.parametrize("precision", ["float32", "float16", "dynamic", "int8"])
def test_delegate_takes_the_whole_graph(matrix: Matrix, precision: str) -> None:
    artifact = matrix["tflite", precision]
    with closing(open_session(artifact, get_target("litert-xnnpack"))) as session:
        assert session.delegation is not None
        assert session.delegation.nodes_taken == session.delegation.nodes_total


def make_model(
    nodes: list[Any], constants: dict[str, Any], shape: list[int | str], outputs: list[int | str]
) -> Any:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, outputs)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run_model(model: Any, images: Any) -> Any:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"image": images})[0]


RANDOM = np.random.default_rng(0)


def cleaned_operators(model: Any, images: Any) -> list[str]:
    """Clean a model, check that its logits stay the same, and return its operators."""
    before = run_model(model, images)
    cleaned = clean(model)
    onnx.checker.check_model(cleaned, full_check=True)
    np.testing.assert_allclose(run_model(cleaned, images), before, rtol=1e-5, atol=1e-5)
    return [node.op_type for node in cleaned.graph.node]


@pytest.mark.parametrize("perm", [[0, 2, 3, 1], [0, 3, 1, 2], [0, 3, 2, 1]])
def test_transpose_before_a_flatten_moves_into_the_weights(perm: list[int]) -> None:
    constants = {
        "shape": np.array([-1, 60]),
        "weights": RANDOM.random((60, 5), np.float32),
        "bias": RANDOM.random(5, np.float32),
    }
    nodes = [
        helper.make_node("Transpose", ["image"], ["a"], perm=perm),
        helper.make_node("Reshape", ["a", "shape"], ["b"]),
        helper.make_node("MatMul", ["b", "weights"], ["c"]),
        helper.make_node("Add", ["bias", "c"], ["logits"]),
    ]
    model = make_model(nodes, constants, ["batch", 3, 4, 5], ["batch", 5])
    images = RANDOM.random((2, 3, 4, 5), np.float32)
    assert cleaned_operators(model, images) == ["Reshape", "Gemm"]


def test_transpose_with_two_consumers_stays() -> None:
    constants = {"shape": np.array([-1, 60]), "weights": RANDOM.random((60, 60), np.float32)}
    nodes = [
        helper.make_node("Transpose", ["image"], ["a"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["a", "shape"], ["b"]),
        helper.make_node("MatMul", ["b", "weights"], ["c"]),
        helper.make_node("Add", ["b", "c"], ["logits"]),
    ]
    model = make_model(nodes, constants, ["batch", 3, 4, 5], ["batch", 60])
    operators = cleaned_operators(model, RANDOM.random((2, 3, 4, 5), np.float32))
    assert operators == ["Transpose", "Reshape", "MatMul", "Add"]


def test_matmul_of_three_axes_stays() -> None:
    constants = {"weights": RANDOM.random((4, 5), np.float32), "bias": np.ones(5, np.float32)}
    nodes = [
        helper.make_node("MatMul", ["image", "weights"], ["a"]),
        helper.make_node("Add", ["a", "bias"], ["logits"]),
    ]
    model = make_model(nodes, constants, ["batch", 3, 4], ["batch", 3, 5])
    assert cleaned_operators(model, RANDOM.random((2, 3, 4), np.float32)) == ["MatMul", "Add"]


@pytest.mark.parametrize("relu_first", [False, True])
def test_relu_comes_before_the_pool(relu_first: bool) -> None:
    constants = {"weights": RANDOM.standard_normal((2, 3, 3, 3)).astype(np.float32)}
    pool: Callable[[str, str], Any] = lambda a, b: helper.make_node(  # noqa: E731
        "MaxPool", [a], [b], kernel_shape=[2, 2], strides=[2, 2]
    )
    relu: Callable[[str, str], Any] = lambda a, b: helper.make_node("Relu", [a], [b])  # noqa: E731
    first, second = (relu, pool) if relu_first else (pool, relu)
    nodes = [
        helper.make_node("Conv", ["image", "weights"], ["a"]),
        first("a", "b"),
        second("b", "logits"),
    ]
    model = make_model(nodes, constants, ["batch", 3, 10, 10], ["batch", 2, 4, 4])
    images = RANDOM.standard_normal((2, 3, 10, 10)).astype(np.float32)
    assert cleaned_operators(model, images) == ["Conv", "Relu", "MaxPool"]


Options = dict[str, Any]
POOL: Options = {"kernel_shape": [2, 2], "strides": [2, 2]}


def convolution(size: int, conv: Options, pool: Options, outputs: int) -> tuple[Any, Any]:
    """Return a model of Conv, Relu and MaxPool, and images for it."""
    constants = {"weights": RANDOM.standard_normal((2, 3, 3, 3)).astype(np.float32)}
    nodes = [
        helper.make_node("Conv", ["image", "weights"], ["a"], **conv),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MaxPool", ["b"], ["logits"], **pool),
    ]
    model = make_model(nodes, constants, ["batch", 3, size, size], ["batch", 2, outputs, outputs])
    return model, RANDOM.standard_normal((2, 3, size, size)).astype(np.float32)


@pytest.mark.parametrize(
    ("size", "conv", "pool", "outputs", "kept"),
    [
        (9, {}, POOL, 3, 8),
        (10, {"dilations": [2, 2]}, {"kernel_shape": [2, 2], "strides": [3, 3]}, 2, 9),
        (12, {"strides": [2, 2]}, POOL, 2, 9),
    ],
)
def test_unused_pixels_are_cropped(
    size: int, conv: Options, pool: Options, outputs: int, kept: int
) -> None:
    model, images = convolution(size, conv, pool, outputs)
    before = run_model(model, images)
    cropped = crop(model)
    onnx.checker.check_model(cropped, full_check=True)
    assert [node.op_type for node in cropped.graph.node] == ["Slice", "Conv", "Relu", "MaxPool"]
    np.testing.assert_array_equal(run_model(cropped, images), before)
    spoiled = images.copy()
    spoiled[:, :, kept:], spoiled[:, :, :, kept:] = np.nan, np.nan
    np.testing.assert_array_equal(run_model(cropped, spoiled), before)
    changes = np.zeros_like(images)
    changes[:, :, kept - 1, kept - 1] = 100
    changed = [run_model(cropped, images + change) for change in (changes, -changes)]
    assert any((logits != before).any() for logits in changed)


@pytest.mark.parametrize(
    ("size", "conv", "pool", "outputs"),
    [
        (10, {}, POOL, 4),  # all pixels are used
        (41, {}, POOL, 19),  # one row of 41 does not pay for a Slice
        (9, {"pads": [1, 1, 1, 1]}, POOL, 4),
        (9, {"auto_pad": "SAME_UPPER"}, POOL, 4),
        (9, {}, {**POOL, "ceil_mode": 1}, 4),
        (9, {}, {**POOL, "pads": [0, 0, 1, 1]}, 4),
    ],
)
def test_used_pixels_stay(size: int, conv: Options, pool: Options, outputs: int) -> None:
    model, images = convolution(size, conv, pool, outputs)
    before = run_model(model, images)
    kept = crop(model)
    assert [node.op_type for node in kept.graph.node] == ["Conv", "Relu", "MaxPool"]
    np.testing.assert_array_equal(run_model(kept, images), before)


def test_pixels_used_by_another_layer_stay() -> None:
    constants = {"weights": np.ones((1, 1, 3, 3), np.float32), "shape": np.array([-1, 49])}
    nodes = [
        helper.make_node("Conv", ["image", "weights"], ["a"]),
        helper.make_node("MaxPool", ["a"], ["b"], **POOL),
        helper.make_node("Reshape", ["a", "shape"], ["c"]),
        helper.make_node("ReduceMax", ["b"], ["d"], axes=[2, 3], keepdims=0),
        helper.make_node("Add", ["c", "d"], ["logits"]),
    ]
    model = make_model(nodes, constants, ["batch", 1, 9, 9], ["batch", 49])
    images = RANDOM.random((2, 1, 9, 9), np.float32)
    before = run_model(model, images)
    np.testing.assert_array_equal(run_model(crop(model), images), before)
    assert "Slice" not in {node.op_type for node in crop(model).graph.node}


@pytest.mark.parametrize(("channels", "kernel", "bias"), [(1, (3, 3), True), (3, (2, 5), False)])
def test_paired_pixels_give_the_same_logits(
    channels: int, kernel: tuple[int, int], bias: bool
) -> None:
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((9, 12, channels)),
            layers.Conv2D(6, kernel, use_bias=bias, activation="relu", name="first"),
            layers.MaxPool2D(2),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    if bias:
        model.layers[0].bias.assign(np.arange(6))
    images = RANDOM.standard_normal((4, 9, 12, channels)).astype(np.float32)
    before = model(images).numpy()
    assert pair_pixels(model) == "first"
    np.testing.assert_allclose(model(images).numpy(), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((8, 9, 1), {}),
        ((8, 8, 1), {"kernel_size": 2}),
        ((8, 8, 1), {"padding": "same"}),
        ((8, 8, 1), {"strides": 2}),
        ((8, 8, 1), {"dilation_rate": 2}),
    ],
)
def test_pixels_that_cannot_be_paired(shape: tuple[int, int, int], options: dict[str, Any]) -> None:
    import keras

    layer = keras.layers.Conv2D(filters=2, **{"kernel_size": 3, **options})
    assert pair_pixels(keras.Sequential([keras.Input(shape), layer])) is None


def test_a_factor_and_a_summand_of_each_channel_move_into_the_convolution() -> None:
    """As tf2onnx leaves the BatchNorm of a depthwise convolution; a scale of pixels stays."""
    random = np.random.default_rng(2)
    shapes = {
        "w": (6, 1, 3, 3),
        "factor": (1, 6, 1, 1),
        "summand": (1, 6, 1, 1),
        "map": (1, 1, 4, 4),
    }
    constants = [
        numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"], group=6),
        helper.make_node("Mul", ["factor", "a"], ["b"]),
        helper.make_node("Add", ["b", "summand"], ["c"]),
        helper.make_node("Mul", ["c", "map"], ["logits"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("image", (1, 6, 6, 6)), ("logits", (1, 6, 4, 4)))
    ]
    graph = helper.make_graph(nodes, "model", ends[:1], ends[1:], constants)
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    image = random.normal(size=(1, 6, 6, 6)).astype(np.float32)

    def run(content: Any) -> Any:
        session = onnxruntime.InferenceSession(content.SerializeToString())
        return session.run(None, {"image": image})[0]

    expected, cleaned = run(model), clean(model)
    assert [node.op_type for node in cleaned.graph.node] == ["Conv", "Mul"]
    np.testing.assert_allclose(run(cleaned), expected, atol=1e-5)
