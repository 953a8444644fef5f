"""Each ONNX operator as TensorFlow Lite computes it, compared with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_edge.export import tflite
from lenet_edge.export.converter import ConversionRequest
from lenet_edge.export.onnx_model import OnnxModel
from tests.export.onnx_networks import Network

pytestmark = pytest.mark.costly

Build = Callable[[Network], Any]
IMAGE = (3, 8, 6)  # channels, height, width


def constant(*numbers: float, dtype: Any = np.int64) -> Callable[[Network], str]:
    return lambda network: network.constant(np.array(numbers, dtype))


def floats(*shape: int) -> Callable[[Network], str]:
    return lambda n: n.constant(n.random.standard_normal(shape).astype(np.float32))


def node(kind: str, *extra: Callable[[Network], str], **attributes: Any) -> Build:
    """Return a function that adds one node, with constants after its first input."""
    return lambda n: n.add(kind, n.value, *(make(n) for make in extra), **attributes)


def conv(filters: int, size: int, **attributes: Any) -> Build:
    return lambda n: n.conv(filters, IMAGE[0], size, **attributes)


def transposed(filters: int, size: int, **attributes: Any) -> Build:
    """Return a function that adds a transposed convolution with a bias."""
    weights, bias = floats(IMAGE[0], filters, size, size), floats(filters)
    return node("ConvTranspose", weights, bias, kernel_shape=[size, size], **attributes)


def then(*builds: Build) -> Build:
    def build(network: Network) -> None:
        for each in builds:
            each(network)

    return build


def two_branches(network: Network, join: str, **attributes: Any) -> None:
    image = network.value
    first = network.conv(3, 3, 3, pads=[1] * 4)
    network.add("Relu", image)
    network.add(join, first, network.value, **attributes)


def exact_gelu(network: Network, is_halved_first: bool) -> None:
    """Add a GELU as both exporters of PyTorch write it."""
    x, half = network.conv(4, 3, 1), network.constant(np.float32(0.5))
    network.add("Div", x, network.constant(np.float32(2**0.5)))
    network.add("Erf")
    gate = network.add("Add", network.value, network.constant(np.float32(1)))
    if is_halved_first:
        network.add("Mul", network.add("Mul", x, half), gate)
    else:
        network.add("Mul", network.add("Mul", x, gate), half)


def shuffle_channels(network: Network) -> None:
    network.conv(4, 3, 1)
    network.add("Reshape", network.value, network.constant(np.array([-1, 2, 2, 8, 6])))
    network.add("Transpose", perm=[0, 2, 1, 3, 4])
    network.add("Reshape", network.value, network.constant(np.array([-1, 4, 8, 6])))
    network.conv(2, 4, 1)


def normalize_flat(network: Network) -> None:
    """Flatten an image and normalize the vector: the values are in an order of their own."""
    network.conv(4, 3, 3)
    network.add("Flatten", axis=1)
    network.normalize(4 * 6 * 4)
    network.add("Relu")
    network.add("Mul", network.value, network.constant(np.linspace(-1, 1, 96, dtype=np.float32)))
    network.dense(5, 96)


def squeeze_excite(network: Network) -> None:
    image = network.conv(4, 3, 3, pads=[1] * 4)
    network.add("GlobalAveragePool")
    network.conv(4, 4, 1)
    network.add("HardSigmoid", alpha=1 / 6, beta=0.5)
    network.add("Mul", image, network.value)


def flatten_branches(network: Network) -> None:
    first = network.conv(4, 3, 3)
    network.add("Flatten", axis=1)
    flat = network.value
    network.add("Flatten", first, axis=1)
    network.add("Sigmoid")
    network.add("Concat", flat, network.value, axis=1)


def split(network: Network) -> None:
    network.conv(6, 3, 1)
    first = network.add("Split", outputs=2, axis=1)
    network.add("Mul", first, first.replace("_output_0", "_output_1"))


def cast_like(network: Network) -> None:
    """Compute a bias as PyTorch's newer exporter does without constant folding."""
    image = network.conv(4, 3, 1)
    network.add("CastLike", network.constant(np.float64(0.5)), image)
    network.add("Expand", network.value, network.constant(np.array([4, 1, 1])))
    network.add("Add", image, network.value)


CASES: dict[str, Build] = {
    "conv": conv(4, 3),
    "conv same": conv(4, 3, pads=[1] * 4),
    "conv stride 2": conv(4, 3, pads=[1] * 4, strides=[2, 2]),
    "conv 5x5 stride 2": conv(4, 5, pads=[2] * 4, strides=[2, 2]),
    "conv uneven pads": conv(4, 3, pads=[0, 1, 2, 1], strides=[1, 2]),
    "conv dilated": conv(4, 3, pads=[2] * 4, dilations=[2, 2]),
    "conv SAME_LOWER": conv(4, 3, auto_pad="SAME_LOWER", strides=[2, 2]),
    "conv depthwise": conv(3, 3, group=3, pads=[1] * 4),
    "conv depthwise x2": conv(6, 3, group=3, pads=[1] * 4, strides=[2, 2]),
    "conv grouped": then(conv(4, 1), lambda n: n.conv(6, 4, 3, group=2)),
    "conv 1d": then(
        node("Reshape", constant(-1, 3, 48)),
        node("Conv", floats(4, 3, 3), floats(4), kernel_shape=[3], pads=[1, 1]),
        node("MaxPool", kernel_shape=[2], strides=[2]),
    ),
    "conv, normalization": then(conv(4, 3), lambda n: n.normalize(4), node("Relu")),
    "normalization": then(node("Relu"), lambda n: n.normalize(3)),
    "transposed conv 2x2": transposed(4, 2, strides=[2, 2]),
    "transposed conv 3x3": transposed(4, 3, strides=[2, 2], pads=[1] * 4, output_padding=[1, 1]),
    "transposed conv 4x4": transposed(4, 4, strides=[2, 2], pads=[1] * 4),
    "transposed conv stride 1": transposed(4, 3),
    "max-pool": node("MaxPool", kernel_shape=[2, 2], strides=[2, 2]),
    "max-pool 3x3": node("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
    "max-pool of a ReLU": then(
        node("Relu"), node("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    ),
    "max-pool ceil": node("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "max-pool 5x5": node("MaxPool", kernel_shape=[5, 5], strides=[2, 2], pads=[2] * 4),
    "average-pool": node("AveragePool", kernel_shape=[2, 2], strides=[2, 2]),
    "average-pool padded": node("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
    "average-pool of zeros": node(
        "AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, count_include_pad=1
    ),
    "global average": node("GlobalAveragePool"),
    "global max": then(node("GlobalMaxPool"), node("Flatten", axis=1)),
    "ReduceMean": node("ReduceMean", axes=[2, 3], keepdims=0),
    "ReduceSum of channels": node("ReduceSum", constant(1), keepdims=0),
    "ReduceMax": node("ReduceMax", axes=[-1], keepdims=1),
    "Gemm": then(node("Flatten", axis=1), lambda n: n.dense(5, 144)),
    "Gemm after conv": then(conv(4, 3), node("Flatten", axis=1), lambda n: n.dense(5, 96)),
    "MatMul after conv": then(
        conv(4, 3), node("Flatten", axis=1), node("MatMul", floats(96, 5)), node("Add", floats(5))
    ),
    "flatten of flattens": then(conv(4, 3), node("Flatten", axis=1), node("Relu")),
    "vector normalized": normalize_flat,
    "branches, Add": lambda n: two_branches(n, "Add"),
    "branches, Concat": lambda n: two_branches(n, "Concat", axis=1),
    "branches flattened": flatten_branches,
    "channel shuffle": shuffle_channels,
    "squeeze and excite": squeeze_excite,
    "Split": split,
    "CastLike": cast_like,
    "bias of channels": then(conv(3, 1), node("Add", floats(3, 1, 1))),
    "scalar first": lambda n: n.add("Sub", n.constant(np.float32(1)), n.value),
    "PRelu": node("PRelu", floats(3, 1, 1)),
    "Clip": node("Clip", constant(0, dtype=np.float32), constant(6, dtype=np.float32)),
    "Clip below": lambda n: n.add("Clip", n.value, n.constant(np.float32(-0.5)), ""),
    "Softmax of channels": then(conv(3, 1), node("Softmax", axis=1)),
    "LogSoftmax": then(node("Flatten", axis=1), node("LogSoftmax", axis=-1)),
    "Transpose": node("Transpose", perm=[0, 2, 3, 1]),
    "Squeeze": then(node("GlobalAveragePool"), node("Squeeze", constant(2, 3))),
    "Unsqueeze": then(node("Unsqueeze", constant(2)), node("Squeeze", constant(2)), conv(2, 1)),
    "Slice": then(conv(4, 1), node("Slice", constant(1), constant(4), constant(1))),
    "Slice of steps": node("Slice", constant(0, 1), constant(9, 6), constant(2, 3), constant(2, 2)),
    "Gather": then(conv(4, 1), node("Gather", constant(3, 0, 1), axis=1)),
    "Gather one": lambda n: n.add("Gather", n.value, n.constant(np.array(-1)), axis=2),
    "Pad": then(node("Pad", constant(0, 0, 1, 2, 0, 0, 3, 0)), conv(2, 3)),
    "Pad reflect": node("Pad", constant(0, 0, 1, 2, 0, 0, 3, 0), mode="reflect"),
    "Resize nearest": lambda n: n.add(
        "Resize",
        n.value,
        "",
        n.constant(np.array([1, 1, 2, 2], np.float32)),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    "Resize bilinear": lambda n: n.add(
        "Resize",
        n.value,
        "",
        "",
        n.constant(np.array([2, 3, 12, 9])),
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    ),
    "Resize corners": lambda n: n.add(
        "Resize",
        n.value,
        "",
        "",
        n.constant(np.array([2, 3, 12, 9])),
        mode="linear",
        coordinate_transformation_mode="align_corners",
    ),
    "DepthToSpace": then(conv(8, 1), node("DepthToSpace", blocksize=2, mode="CRD")),
    "DepthToSpace DCR": then(conv(8, 1), node("DepthToSpace", blocksize=2)),
    "SpaceToDepth": then(conv(2, 1), node("SpaceToDepth", blocksize=2)),
    "LayerNormalization": then(
        conv(4, 1),
        node("Transpose", perm=[0, 2, 3, 1]),
        node("LayerNormalization", floats(4), floats(4), axis=-1),
        node("Transpose", perm=[0, 3, 1, 2]),
        lambda n: n.conv(2, 4, 1),
    ),
    "GELU": lambda n: exact_gelu(n, False),
    "GELU halved first": lambda n: exact_gelu(n, True),
    "InstanceNormalization": node("InstanceNormalization", floats(3), floats(3)),
    "attention": then(
        conv(4, 1),
        node("Reshape", constant(0, 4, 48)),
        node("Transpose", perm=[0, 2, 1]),
        node("MatMul", floats(4, 6)),
        node("Softmax", axis=-1),
        node("ReduceMean", axes=[1]),
    ),
    **{
        kind: node(kind)
        for kind in (
            "Abs",
            "Elu",
            "Exp",
            "HardSigmoid",
            "HardSwish",
            "LeakyRelu",
            "Neg",
            "Relu",
            "Sigmoid",
            "Softplus",
            "Tanh",
        )
    },
}
# Networks whose output is a flattened image, or that move channels.
TRANSPOSED = {
    "branches flattened": 2, "channel shuffle": 2, "flatten of flattens": 1, "LogSoftmax": 1,
}  # fmt: skip


def convert(network: Network, path: Path, opset: int = 17) -> tuple[OnnxModel, Any, list[str]]:
    """Return an ONNX model, an interpreter of its .tflite file, and the operators of the file."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    model = OnnxModel(network.save(path / "model.onnx", opset=opset))
    request = ConversionRequest(model, "float32", np.zeros(0, np.float32))
    interpreter = Interpreter(
        model_content=tflite.convert(request).content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    return model, interpreter, [each["op_name"] for each in interpreter._get_ops_details()]


@pytest.mark.parametrize("case", CASES)
def test_operator_agrees_with_onnx_runtime(tmp_path: Path, case: str) -> None:
    network = Network(("batch", *IMAGE), seed=len(case))
    CASES[case](network)
    model, interpreter, operators = convert(network, tmp_path)
    images = np.random.default_rng(1).standard_normal((2, *IMAGE[1:], IMAGE[0])).astype(np.float32)
    expected = model.predict(images)
    (entry,), (end,) = interpreter.get_input_details(), interpreter.get_output_details()
    shape = images.shape if model.inputs[0].is_channels_first else (2, *IMAGE)
    interpreter.resize_tensor_input(entry["index"], shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(entry["index"], images if model.inputs[0].is_channels_first else (
        np.moveaxis(images, -1, 1)
    ))  # fmt: skip
    interpreter.invoke()
    found = interpreter.get_tensor(end["index"])
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
    assert "SHAPE" not in operators
    # An image as output has the layout of the original.
    assert operators.count("TRANSPOSE") <= TRANSPOSED.get(case, expected.ndim > 2)
