"""Conversion of ONNX graphs to TensorFlow functions with channels last.

It covers the operators of classifiers and of small vision networks. Every operator becomes
operators that TensorFlow Lite has built in, without a computation of shapes at run time, so that
delegates accept the graph. The library onnx2tf covers more operators. It needs 2.5 GB for versions
of TensorFlow and NumPy of its own, see docs/decisions.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import lenet_edge.model  # noqa: F401  imported first: it quiets TensorFlow
from lenet_edge.errors import ModelFileError
from lenet_edge.export.onnx_graph import attribute
from lenet_edge.export.onnx_simplify import normalization
from lenet_edge.export.onnx_values import (
    Order,
    Value,
    channels_last,
    plain,
    reshape,
    reshape_value,
)
from lenet_edge.support.printable import make_printable

import tensorflow as tf  # isort: skip
from onnx import numpy_helper  # isort: skip

_MAX_NAMED = 5  # nodes of one operator that an error names


class Unsupported(Exception):
    """A node that cannot be converted; the message completes "node X (Conv): ..."."""


class Node:
    """One node of an ONNX graph, with the values of its inputs."""

    def __init__(self, proto: Any, inputs: Sequence[Value | None], opset: int) -> None:
        self.proto, self.inputs, self.opset = proto, inputs, opset
        self.kind: str = proto.op_type

    @property
    def x(self) -> Value:
        """The first input."""
        return self.input(0)

    def input(self, index: int) -> Value:
        """Return an input that must exist."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None:
            raise Unsupported(f"it has no input {index}")
        return value

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute; `default` if the node does not state it."""
        value = attribute(self.proto, name)
        value = value.decode() if isinstance(value, bytes) else value
        return default if value is None else value

    def constant(self, index: int, default: Any = None) -> Any:
        """Return a constant input as a NumPy array; `default` if it is missing."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None:
            return default
        if not value.is_constant:
            raise Unsupported(f"its input {index} is not constant")
        return value.plain().tensor

    def numbers(self, name: str, index: int) -> list[int] | None:
        """Return integers that newer opsets have as an input and older ones as an attribute."""
        array = self.constant(index)
        if array is not None:
            return [int(number) for number in np.atleast_1d(array)]
        value = self.attribute(name)
        return None if value is None else list(np.atleast_1d(value))


Result = Value | list[Value]
_OPERATORS: dict[str, Callable[[Node], Result]] = {}


def _converts(*kinds: str) -> Callable[[Callable[[Node], Result]], Callable[[Node], Result]]:
    def register(function: Callable[[Node], Result]) -> Callable[[Node], Result]:
        _OPERATORS.update(dict.fromkeys(kinds, function))
        return function

    return register


def convert_graph(model: Any, inputs: dict[str, Value], path: str) -> dict[str, Value]:
    """Compute the outputs of an ONNX graph with TensorFlow.

    Args:
        model: an `onnx.ModelProto` from `onnx_simplify.simplify`.
        inputs: the value of each input, by its name.
        path: the name of the file, for messages.

    Returns:
        The value of each output, by its name.

    Raises:
        ModelFileError: an operator cannot be converted. The message names all of them.
    """
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    values: dict[str, Value | None] = {
        tensor.name: plain(np.asarray(numpy_helper.to_array(tensor)))
        for tensor in model.graph.initializer
    }
    values.update(inputs)
    failed: dict[str, list[str]] = {}
    for node in model.graph.node:
        name = make_printable(node.name or (node.output[0] if node.output else "")).strip("/")
        convert = None if node.domain not in ("", "ai.onnx") else _OPERATORS.get(node.op_type)
        if convert is None:
            failed.setdefault(make_printable(node.op_type), []).append(name)
            results: Sequence[Value | None] = [None] * len(node.output)
        elif any(name and values.get(name) is None for name in node.input):
            results = [None] * len(node.output)  # it depends on a node that failed
        else:
            arguments = [values[name] if name else None for name in node.input]
            try:
                with tf.name_scope(_scope(node)):
                    result = convert(Node(node, arguments, opset))
                results = result if isinstance(result, list) else [result]
            except Unsupported as error:
                failed.setdefault(node.op_type, []).append(f"{name}: {error}")
                results = [None] * len(node.output)
            except (ValueError, TypeError, IndexError, tf.errors.OpError) as error:
                reason = " ".join(str(error).split())[:100]
                failed.setdefault(node.op_type, []).append(f"{name}: {reason}")
                results = [None] * len(node.output)
        values.update(zip(node.output, results, strict=False))
    if failed:
        raise ModelFileError(
            f"{path} has operators that lenet-edge cannot convert: {_list(failed)}; export to onnx"
            " alone (--format onnx), replace them, or use onnx2tf (docs/pytorch.md)"
        )
    return {value.name: _present(values.get(value.name), path) for value in model.graph.output}


def _present(value: Value | None, path: str) -> Value:
    if value is None:
        raise ModelFileError(f"{path} has an output that no node computes; export it again")
    return value


def _list(failed: dict[str, list[str]]) -> str:
    texts = []
    for kind, nodes in failed.items():
        more = len(nodes) - _MAX_NAMED
        named = ", ".join(nodes[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
        texts.append(f"{kind} ({named})")
    return ", ".join(texts)


def _scope(node: Any) -> str:
    """Return a name for the operators of a node; the layers of the .tflite file have it."""
    name = str(node.name or node.output[0]).strip("/")
    name = name.removesuffix(f"/{node.op_type}") or node.op_type
    name = re.sub(r"[^A-Za-z0-9_.\-]+", "_", name).lstrip("_.-")
    return name[:100] or "node"


# Elementwise operators


def _hard_sigmoid(node: Node) -> Value:
    alpha, beta = node.attribute("alpha", 0.2), node.attribute("beta", 0.5)
    x = node.x.tensor
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return node.x.with_tensor(tf.nn.relu6(x + 3.0) * np.float32(1 / 6), True)
    return node.x.with_tensor(tf.clip_by_value(alpha * x + beta, 0.0, 1.0), True)


_OPERATORS["HardSigmoid"] = _hard_sigmoid

_UNARY: dict[str, Callable[[Any], Any]] = {
    "Abs": tf.abs,
    "Ceil": tf.math.ceil,
    "Cos": tf.cos,
    "Exp": tf.exp,
    "Floor": tf.floor,
    "HardSwish": lambda x: x * tf.nn.relu6(x + 3.0) * np.float32(1 / 6),
    "Log": tf.math.log,
    "Mish": lambda x: x * tf.tanh(tf.math.log(1.0 + tf.exp(x))),
    "Neg": tf.negative,
    "Reciprocal": lambda x: 1.0 / x,
    "Relu": tf.nn.relu,
    "Sigmoid": tf.sigmoid,
    "Sin": tf.sin,
    "Softplus": lambda x: tf.math.log(1.0 + tf.exp(x)),
    "Softsign": lambda x: x / (1.0 + tf.abs(x)),
    "Sqrt": tf.sqrt,
    "Tanh": tf.tanh,
}
_NONNEGATIVE = ("Abs", "Exp", "Relu", "Sigmoid", "Softplus", "Sqrt")


@_converts(*_UNARY)
def _unary(node: Node) -> Value:
    result = _UNARY[node.kind](node.x.tensor)
    return node.x.with_tensor(result, node.kind in _NONNEGATIVE)


@_converts("Identity", "Dropout")
def _identity(node: Node) -> Value:
    return node.x


@_converts("Cast")
def _cast(node: Node) -> Value:
    types = {1: tf.float32, 6: tf.int32, 7: tf.int64, 9: tf.bool}
    if node.attribute("to") not in types:
        raise Unsupported("it casts to a type that lenet-edge does not convert")
    tensor = tf.cast(node.x.tensor, types[node.attribute("to")])
    return node.x.with_tensor(tensor, node.x.is_nonnegative)


@_converts("LeakyRelu")
def _leaky_relu(node: Node) -> Value:
    return node.x.with_tensor(tf.nn.leaky_relu(node.x.tensor, node.attribute("alpha", 0.01)))


@_converts("Elu")
def _elu(node: Node) -> Value:
    if node.attribute("alpha", 1.0) != 1:
        raise Unsupported("its alpha is not 1")
    return node.x.with_tensor(tf.nn.elu(node.x.tensor))


@_converts("Gelu")
def _gelu(node: Node) -> Value:
    approximate = node.attribute("approximate", "none") == "tanh"
    return node.x.with_tensor(tf.nn.gelu(node.x.tensor, approximate))


@_converts("Clip")
def _clip(node: Node) -> Value:
    low, high = (
        node.attribute(name) if node.opset < 11 else node.constant(index)
        for index, name in ((1, "min"), (2, "max"))
    )
    low, high = (None if end is None else float(end) for end in (low, high))
    x = node.x.tensor
    if (low, high) == (0, 6):
        x = tf.nn.relu6(x)
    elif low == 0:
        x = tf.nn.relu(x)
        x = x if high is None else tf.minimum(x, high)
    else:
        x = x if low is None else tf.maximum(x, low)
        x = x if high is None else tf.minimum(x, high)
    return node.x.with_tensor(x, low is not None and low >= 0)


@_converts("PRelu")
def _prelu(node: Node) -> Value:
    x, (slope,) = node.x.unflattened(), _aligned(node.x.unflattened(), [node.input(1)])
    return x.with_tensor(tf.nn.relu(x.tensor) - slope * tf.nn.relu(-x.tensor))


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "Add": tf.add,
    "Sub": tf.subtract,
    "Mul": tf.multiply,
    "Div": tf.divide,
    "Pow": tf.pow,
    "Max": tf.maximum,
    "Min": tf.minimum,
    "Equal": tf.equal,
    "Greater": tf.greater,
    "GreaterOrEqual": tf.greater_equal,
    "Less": tf.less,
    "LessOrEqual": tf.less_equal,
    "And": tf.logical_and,
    "Or": tf.logical_or,
}


@_converts(*_BINARY, "Sum", "Mean")
def _binary(node: Node) -> Value:
    values = [value for value in node.inputs if value is not None]
    if node.kind in ("Add", "Mul") and len(values) == 2 and values[0].is_constant:
        values.reverse()  # the constant second, as TensorFlow Lite fuses it
    # The order of the largest value decides.
    main = max((v for v in values if not v.is_constant), key=lambda v: v.rank, default=values[0])
    rank = max(value.rank for value in values)
    if rank > main.rank:
        main = _extended(main.unflattened(), rank)
    elif main.flattened and not all(_keeps_order(main, value) for value in values):
        main = main.unflattened()
    tensors = _aligned(main, values)
    function = _BINARY.get(node.kind, tf.add)
    result = tensors[0]
    for tensor in tensors[1:]:
        result = function(result, tensor)
    if node.kind == "Mean":
        result = result / float(len(tensors))
    keeps_sign = node.kind in ("Add", "Mul", "Max", "Min", "Sum", "Mean", "Div")
    is_nonnegative = keeps_sign and all(_is_nonnegative(value) for value in values)
    return main.with_tensor(result, is_nonnegative)


def _is_nonnegative(value: Value) -> bool:
    return bool((value.tensor >= 0).all()) if value.is_constant else value.is_nonnegative


def _keeps_order(main: Value, value: Value) -> bool:
    """Return True if a value can be combined with another whose last axis has its own order."""
    if value.is_constant:
        return value.rank <= main.rank
    return (value.flattened, value.flat_order, value.order) == (
        main.flattened,
        main.flat_order,
        main.order,
    )


def _extended(value: Value, rank: int) -> Value:
    """Return a value with axes of size 1 before the others, as ONNX broadcasts it."""
    missing = rank - value.rank
    order = (*range(missing), *(axis + missing for axis in value.order))
    return Value(reshape(value.tensor, ((1,) * missing + value.stored_shape)), order)


def _aligned(main: Value, values: Sequence[Value]) -> list[Any]:
    """Return the tensors of values, their axes stored as those of `main`, for broadcasting."""
    tensors = []
    for value in values:
        if value is main or value == main:
            tensors.append(value.tensor)
        elif value.is_constant:
            array = value.plain().tensor
            if main.flattened and array.ndim and array.shape[-1] != 1:
                array = main.shuffle(array, -1)
            array = array.reshape((1,) * (main.rank - array.ndim) + array.shape)
            if array.size == 1:
                tensors.append(array.reshape(()))
                continue
            array = np.ascontiguousarray(array.transpose(main.order))
            while array.ndim > 1 and array.shape[0] == 1:
                array = array[0]  # TensorFlow Lite fuses a vector of channels
            tensors.append(array)
        elif main.flattened:
            tensors.append(value.tensor)
        else:
            wide = value.unflattened()
            wide = wide if wide.rank == main.rank else _extended(wide, main.rank)
            tensors.append(wide.stored_as(main.order).tensor)
    return tensors


@_converts("Where")
def _where(node: Node) -> Value:
    values = [node.input(index) for index in range(3)]
    main = max(values, key=lambda value: (value.rank, not value.is_constant)).unflattened()
    return main.with_tensor(tf.where(*_aligned(main, values)))


# Layers with weights


def _geometry(node: Node, kernel: Sequence[int]) -> tuple[list[int], list[int]]:
    spatial = len(kernel)
    strides = list(node.attribute("strides", [1] * spatial))
    return strides, list(node.attribute("dilations", [1] * spatial))


def _pads(
    node: Node,
    sizes: Sequence[int | None],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> tuple[str, list[tuple[int, int]]]:
    """Return the padding of a convolution or a pool: TensorFlow's name of it, and its sizes.

    What no window reads is left out. "SAME" and "VALID" need no padding of their own.
    """
    spatial = len(kernel)
    kind = node.attribute("auto_pad", "NOTSET")
    stated = list(node.attribute("pads", [0] * 2 * spatial))
    pads, same = [], []
    for axis in range(spatial):
        size, step = sizes[axis], strides[axis]
        if size is None:
            raise Unsupported("the size of its input is not fixed")
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        total = max((-(-size // step) - 1) * step + reach - size, 0)
        if kind == "SAME_UPPER":
            pad = (total // 2, total - total // 2)
        elif kind == "SAME_LOWER":
            pad = (total - total // 2, total // 2)
        else:
            pad = (0, 0) if kind == "VALID" else (stated[axis], stated[axis + spatial])
            room = size + sum(pad) - reach
            count = (-(-room // step) if node.attribute("ceil_mode", 0) else room // step) + 1
            if node.attribute("ceil_mode", 0) and (count - 1) * step >= size + pad[0]:
                count -= 1  # no window starts in the padding behind the values
            pad = (pad[0], max((count - 1) * step + reach - size - pad[0], 0))
        pads.append(pad)
        same.append((total // 2, total - total // 2))
    if not any(map(any, pads)):
        return "VALID", pads
    return ("SAME" if pads == same else "EXPLICIT"), pads


def _spatial_padding(pads: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(0, 0), *pads, (0, 0)]


@_converts("Conv")
def _conv(node: Node) -> Value:
    weights, bias = node.constant(1), node.constant(2)
    spatial = weights.ndim - 2
    if spatial not in (1, 2):
        raise Unsupported(f"it has {spatial} spatial axes, and 1 or 2 are covered")
    x = node.x.stored_as(channels_last(spatial + 2))
    tensor, kernel = x.tensor, list(weights.shape[2:])
    strides, dilations = _geometry(node, kernel)
    padding, pads = _pads(node, tensor.shape[1:-1], kernel, strides, dilations)
    if padding == "EXPLICIT":
        tensor, padding = tf.pad(tensor, _spatial_padding(pads)), "VALID"
    if spatial == 1:  # as an image of one row
        tensor = tf.expand_dims(tensor, 1)
        weights = weights[:, :, np.newaxis]
        strides, dilations = [1, *strides], [1, *dilations]
    tensor = _conv_2d(tensor, weights, strides, dilations, padding, node.attribute("group", 1))
    if bias is not None:
        tensor = tf.nn.bias_add(tensor, bias)
    return Value(tf.squeeze(tensor, 1) if spatial == 1 else tensor, x.order)


def _conv_2d(
    tensor: Any, weights: Any, strides: list[int], dilations: list[int], padding: str, groups: int
) -> Any:
    channels = tensor.shape[-1]
    if groups == channels and groups > 1:
        multiplier = weights.shape[0] // groups
        kernel = weights.reshape(groups, multiplier, *weights.shape[2:]).transpose(2, 3, 0, 1)
        if strides[0] != strides[1] or (max(strides) > 1 and max(dilations) > 1):
            raise Unsupported("its strides differ, or it has strides and dilations")
        return tf.nn.depthwise_conv2d(tensor, kernel, [1, *strides, 1], padding, None, dilations)
    kernel = weights.transpose(2, 3, 1, 0)
    return tf.nn.conv2d(tensor, kernel, [1, *strides, 1], padding, "NHWC", dilations)


@_converts("ConvTranspose")
def _conv_transpose(node: Node) -> Value:
    """Convert a transposed convolution to a convolution and DepthToSpace.

    TensorFlow's own operator takes its output shape, which a free batch leaves to the run time.
    Output s * q + r is a sum over d of input q - d times weight s * d + r. So a convolution
    computes the s x s outputs of each q as channels.
    """
    weights, bias = node.constant(1), node.constant(2)
    if weights.ndim != 4:
        raise Unsupported("only two spatial axes are covered")
    kernel = list(weights.shape[2:])
    strides, dilations = _geometry(node, kernel)
    if node.attribute("group", 1) != 1 or max(dilations) > 1 or strides[0] != strides[1]:
        raise Unsupported("groups, dilations and different strides are not covered")
    step = strides[0]
    x = node.x.stored_as(channels_last(4))
    if None in x.stored_shape[1:]:
        raise Unsupported("the size of its input is not fixed")
    taps = [-(-size // step) for size in kernel]
    filters = weights.shape[1]
    wide = np.zeros((*weights.shape[:2], *(count * step for count in taps)), weights.dtype)
    wide[:, :, : kernel[0], : kernel[1]] = weights
    split = wide.reshape(*weights.shape[:2], taps[0], step, taps[1], step)
    flipped = split[:, :, ::-1, :, ::-1]
    packed = flipped.transpose(2, 4, 0, 3, 5, 1).reshape(*taps, -1, step * step * filters)
    tensor = x.tensor
    if max(taps) > 1:
        tensor = tf.pad(tensor, _spatial_padding([(count - 1, count - 1) for count in taps]))
    tensor = tf.nn.conv2d(tensor, np.ascontiguousarray(packed), 1, "VALID")
    if bias is not None:
        tensor = tf.nn.bias_add(tensor, np.tile(bias, step * step))
    if step > 1:
        tensor = tf.nn.depth_to_space(tensor, step)
    bounds = _transposed_bounds(node, x.stored_shape[1:3], kernel, step)
    missing = [max(0, end - size) for (_, end), size in zip(bounds, tensor.shape[1:3], strict=True)]
    if any(missing):
        if bias is not None and bias.any():
            raise Unsupported("its output_padding exceeds what its kernel computes")
        tensor = tf.pad(tensor, _spatial_padding([(0, size) for size in missing]))
    if [(0, size) for size in tensor.shape[1:3]] != bounds:
        (top, bottom), (left, right) = bounds
        tensor = tensor[:, top:bottom, left:right]
    return Value(tensor, x.order)


def _transposed_bounds(
    node: Node, sizes: Sequence[int | None], kernel: list[int], step: int
) -> list[tuple[int, int]]:
    """Return the part of the whole transposed convolution that is its output, for each axis."""
    extra = node.attribute("output_padding", [0, 0])
    wanted, kind = node.attribute("output_shape"), node.attribute("auto_pad", "NOTSET")
    pads = node.attribute("pads", [0, 0, 0, 0])
    bounds = []
    for axis in range(2):
        whole = ((sizes[axis] or 0) - 1) * step + kernel[axis] + extra[axis]
        if wanted is not None or kind in ("SAME_UPPER", "SAME_LOWER"):
            count = wanted[axis - 2] if wanted is not None else (sizes[axis] or 0) * step
            total = whole - count
            first = total - total // 2 if kind == "SAME_LOWER" else total // 2
            bounds.append((first, first + count))
        else:
            bounds.append((pads[axis], whole - pads[axis + 2]))
    return bounds


@_converts("Gemm")
def _gemm(node: Node) -> Value:
    x = node.x.unflattened() if node.attribute("transA", 0) else node.x
    tensor = tf.transpose(x.plain().tensor) if node.attribute("transA", 0) else x.tensor
    weights = node.constant(1)
    weights = weights.T if node.attribute("transB", 0) else weights
    weights = x.shuffle(weights, 0) * np.float32(node.attribute("alpha", 1.0))
    if x.order != (0, 1):
        tensor = x.plain().tensor
    tensor = tf.matmul(tensor, weights)
    bias = node.constant(2)
    if bias is not None:
        bias = np.squeeze(bias * np.float32(node.attribute("beta", 1.0)))
        bias = np.broadcast_to(bias, (weights.shape[1],)) if bias.ndim == 0 else bias
        tensor = tf.nn.bias_add(tensor, bias) if bias.ndim == 1 else tensor + bias
    return plain(tensor)


@_converts("MatMul")
def _matmul(node: Node) -> Value:
    first, second = node.x, node.input(1)
    if second.is_constant and first.rank > 1:
        weights = first.shuffle(second.plain().tensor, -2)
        tensor = first.tensor if first.flattened else first.plain().tensor
        return plain(tf.matmul(tensor, weights))
    return plain(tf.matmul(first.plain().tensor, second.plain().tensor))


@_converts("BatchNormalization")
def _batch_normalization(node: Node) -> Value:
    factor, summand = normalization(node.proto, [node.constant(index) for index in range(1, 5)])
    channels = [value.astype(np.float32) for value in (factor, summand)]
    if node.x.rank > 2:
        x = node.x.stored_as(channels_last(node.x.rank))
    else:
        x, channels = node.x, [node.x.shuffle(value, 0) for value in channels]
    return x.with_tensor(x.tensor * channels[0] + channels[1])


@_converts("InstanceNormalization")
def _instance_normalization(node: Node) -> Value:
    x = node.x.stored_as(channels_last(node.x.rank))
    axes = list(range(1, x.rank - 1))
    normal = _normal(x.tensor, axes, node.attribute("epsilon", 1e-5))
    return x.with_tensor(normal * node.constant(1) + node.constant(2))


@_converts("LayerNormalization")
def _layer_normalization(node: Node) -> Value:
    x = node.x.plain()
    first = node.attribute("axis", -1) % x.rank
    normal = _normal(x.tensor, list(range(first, x.rank)), node.attribute("epsilon", 1e-5))
    result = normal * node.constant(1)
    bias = node.constant(2)
    return x.with_tensor(result if bias is None else result + bias)


def _normal(tensor: Any, axes: list[int], epsilon: float) -> Any:
    centred = tensor - tf.reduce_mean(tensor, axes, keepdims=True)
    variance = tf.reduce_mean(centred * centred, axes, keepdims=True)
    return centred * tf.math.rsqrt(variance + epsilon)


# Pools and reductions


@_converts("MaxPool", "AveragePool")
def _pool(node: Node) -> Value:
    kernel = list(node.attribute("kernel_shape"))
    strides, dilations = _geometry(node, kernel)
    if len(kernel) not in (1, 2) or max(dilations) > 1 or len(node.proto.output) > 1:
        raise Unsupported("dilations, indices and three spatial axes are not covered")
    x = node.x.stored_as(channels_last(len(kernel) + 2))
    tensor = x.tensor
    padding, pads = _pads(node, tensor.shape[1:-1], kernel, strides, dilations)
    if len(kernel) == 1:
        tensor = tf.expand_dims(tensor, 1)
        kernel, strides, pads = [1, *kernel], [1, *strides], [(0, 0), *pads]
    if node.kind == "MaxPool":
        tensor, padding = _pad_for_maximum(x, tensor, padding, pads)
        tensor = tf.nn.max_pool2d(tensor, kernel, strides, padding)
    else:
        tensor = _average(node, tensor, kernel, strides, padding, pads)
    tensor = tf.squeeze(tensor, 1) if len(node.attribute("kernel_shape")) == 1 else tensor
    return x.with_tensor(tensor, x.is_nonnegative)


def _pad_for_maximum(
    x: Value, tensor: Any, padding: str, pads: list[tuple[int, int]]
) -> tuple[Any, str]:
    """Pad the input of a max-pool, so that no padding is a maximum.

    A mirrored value is in the same window as its original, because a pool pads at most half of its
    kernel. Zeros are simpler, if no value is negative.
    """
    if padding != "EXPLICIT":
        return tensor, padding
    mode = "CONSTANT" if x.is_nonnegative else "SYMMETRIC"
    return tf.pad(tensor, _spatial_padding(pads), mode), "VALID"


def _average(
    node: Node,
    tensor: Any,
    kernel: list[int],
    strides: list[int],
    padding: str,
    pads: list[tuple[int, int]],
) -> Any:
    includes_padding = bool(node.attribute("count_include_pad", 0))
    if padding == "VALID" or (padding == "SAME" and not includes_padding):
        return tf.nn.avg_pool2d(tensor, kernel, strides, padding)
    if includes_padding and node.attribute("ceil_mode", 0):
        raise Unsupported("ceil_mode with count_include_pad is not covered")
    result = tf.nn.avg_pool2d(tf.pad(tensor, _spatial_padding(pads)), kernel, strides, "VALID")
    if includes_padding:
        return result
    # Each window counts its padding; undo that.
    shares = []
    for axis in range(2):
        size, (before, after) = tensor.shape[1 + axis], pads[axis]
        inside = np.pad(np.ones(size), (before, after))
        starts = range(0, len(inside) - kernel[axis] + 1, strides[axis])
        shares.append(np.array([inside[i : i + kernel[axis]].mean() for i in starts]))
    factor = 1 / (shares[0][:, None, None] * shares[1][None, :, None])
    return result * factor.astype(np.float32)


@_converts("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(node: Node) -> Value:
    x = node.x.stored_as(channels_last(node.x.rank))
    reduce = tf.reduce_mean if node.kind == "GlobalAveragePool" else tf.reduce_max
    result = reduce(x.tensor, list(range(1, x.rank - 1)), keepdims=True)
    return x.with_tensor(result, x.is_nonnegative)


_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceMax": tf.reduce_max,
    "ReduceMean": tf.reduce_mean,
    "ReduceMin": tf.reduce_min,
    "ReduceProd": tf.reduce_prod,
    "ReduceSum": tf.reduce_sum,
    "ReduceL2": lambda x, axes, keepdims: tf.sqrt(tf.reduce_sum(x * x, axes, keepdims)),
}


@_converts(*_REDUCTIONS)
def _reduce(node: Node) -> Value:
    x = node.x.unflattened()
    axes = node.numbers("axes", 1)
    if not axes:
        if node.attribute("noop_with_empty_axes", 0):
            return x
        axes = list(range(x.rank))
    keep = bool(node.attribute("keepdims", 1))
    gone = [axis % x.rank for axis in axes]
    tensor = _REDUCTIONS[node.kind](x.tensor, sorted(x.axis(axis) for axis in gone), keepdims=keep)
    order = x.order if keep else _renumbered([axis for axis in x.order if axis not in gone])
    return Value(tensor, order, is_nonnegative=x.is_nonnegative)


def _renumbered(axes: Sequence[int]) -> Order:
    """Return the places of axes after others were removed."""
    return tuple(sorted(axes).index(axis) for axis in axes)


@_converts("ArgMax", "ArgMin")
def _arg(node: Node) -> Value:
    x = node.x.unflattened()
    axis = node.attribute("axis", 0) % x.rank
    find = tf.argmax if node.kind == "ArgMax" else tf.argmin
    tensor = find(x.tensor, x.axis(axis), output_type=tf.int64)
    if node.attribute("keepdims", 1):
        return Value(tf.expand_dims(tensor, x.axis(axis)), x.order)
    return Value(tensor, _renumbered([a for a in x.order if a != axis]))


@_converts("Softmax", "LogSoftmax")
def _softmax(node: Node) -> Value:
    x = node.x.unflattened()
    function = tf.nn.softmax if node.kind == "Softmax" else tf.nn.log_softmax
    axis = node.attribute("axis", -1 if node.opset >= 13 else 1) % x.rank
    if node.opset < 13 and axis != x.rank - 1:
        raise Unsupported("before opset 13 only the softmax of the last axis is covered")
    return x.with_tensor(function(x.tensor, x.axis(axis)), node.kind == "Softmax")


# Shapes and places


@_converts("Reshape")
def _reshape(node: Node) -> Value:
    sizes: list[int | None] = [int(size) for size in node.constant(1)]
    shape = node.x.shape
    if not node.attribute("allowzero", 0):
        sizes = [shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return reshape_value(node.x, _completed(shape, sizes))


def _completed(shape: Sequence[int | None], sizes: Sequence[int | None]) -> list[int | None]:
    """Return the target of a Reshape with a number in place of -1; None for the free batch."""
    sizes = list(sizes)
    if -1 not in sizes:
        return sizes
    before = [size for size in shape if size is not None]
    after = [size for size in sizes if size not in (None, -1)]
    is_free = None in shape and None not in sizes
    known = int(np.prod([size or 1 for size in after]))
    rest, remainder = divmod(int(np.prod(before)), known)
    if remainder or (is_free and rest != 1):
        raise Unsupported("it joins the free batch with other axes")
    sizes[sizes.index(-1)] = None if is_free else rest
    return sizes


@_converts("Flatten")
def _flatten(node: Node) -> Value:
    axis, shape = node.attribute("axis", 1), node.x.shape
    axis = axis % len(shape) if axis < 0 else axis
    sides = [shape[:axis], shape[axis:]]
    joined = [None if None in side else math.prod(size or 0 for size in side) for side in sides]
    return reshape_value(node.x, joined)


@_converts("Squeeze", "Unsqueeze")
def _squeeze(node: Node) -> Value:
    axes, shape = node.numbers("axes", 1), node.x.shape
    if node.kind == "Squeeze":
        chosen = [axis for axis, size in enumerate(shape) if size == 1]
        chosen = chosen if axes is None else [axis % len(shape) for axis in axes]
        return reshape_value(node.x, [s for axis, s in enumerate(shape) if axis not in chosen])
    rank = len(shape) + len(axes or ())
    sizes = list(shape)
    for axis in sorted(axis % rank for axis in axes or ()):
        sizes.insert(axis, 1)
    return reshape_value(node.x, sizes)


@_converts("Transpose")
def _transpose(node: Node) -> Value:
    x = node.x.unflattened()
    perm = list(node.attribute("perm", range(x.rank)[::-1]))
    order = tuple(perm.index(axis) for axis in x.order)
    return Value(x.tensor, order, is_nonnegative=x.is_nonnegative)


@_converts("Concat")
def _concat(node: Node) -> Value:
    values = [value.unflattened() for value in node.inputs if value is not None]
    main = next((value for value in values if not value.is_constant), values[0])
    tensors = [value.stored_as(main.order).tensor for value in values]
    result = tf.concat(tensors, main.axis(node.attribute("axis", 0)))
    return main.with_tensor(result, all(map(_is_nonnegative, values)))


@_converts("Split")
def _split(node: Node) -> Result:
    x = node.x.unflattened()
    axis = node.attribute("axis", 0)
    size, count = x.shape[axis % x.rank], len(node.proto.output)
    sizes = node.numbers("split", 1)
    if size is None:
        raise Unsupported("it splits the free batch")
    if sizes is None:
        part = -(-size // count)
        sizes = [min(part, size - index * part) for index in range(count)]
    results, start = [], 0
    for length in sizes:
        results.append(_cut(x, {axis % x.rank: slice(start, start + length)}))
        start += length
    return results


def _cut(x: Value, slices: dict[int, slice]) -> Value:
    """Return a part of a value; the slices have the numbers of ONNX axes."""
    whole = slice(None)
    return x.with_tensor(
        x.tensor[tuple(slices.get(axis, whole) for axis in x.order)], x.is_nonnegative
    )


@_converts("Slice")
def _slice(node: Node) -> Value:
    x = node.x.unflattened()
    starts, ends = node.numbers("starts", 1), node.numbers("ends", 2)
    if starts is None or ends is None:
        raise Unsupported("its bounds are not constant")
    axes = node.numbers("axes", 3) or list(range(len(starts)))
    steps = node.numbers("steps", 4) or [1] * len(starts)
    slices = {}
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        size = x.shape[axis % x.rank]
        if step < 0:
            raise Unsupported("a negative step is not covered")
        if size is None:
            if start != 0 or end < 2**31 - 1 or step != 1:
                raise Unsupported("it cuts the free batch")
            continue
        slices[axis % x.rank] = slice(*slice(start, end).indices(size)[:2], step)
    return _cut(x, slices)


@_converts("Gather")
def _gather(node: Node) -> Value:
    x, places = node.x.unflattened(), node.constant(1)
    axis = node.attribute("axis", 0) % x.rank
    size = x.shape[axis]
    if size is None or places.ndim > 1:
        raise Unsupported("only a constant list of places, not in the free batch, is covered")
    places = np.where(places < 0, places + size, places)
    if places.ndim == 0:
        place = int(places)
        cut = _cut(x, {axis: slice(place, place + 1)})
        return reshape_value(cut, [s for a, s in enumerate(cut.shape) if a != axis])
    first, steps = int(places[0]), np.diff(places)
    if len(places) and (steps == 1).all():
        return _cut(x, {axis: slice(first, first + len(places))})
    tensor = tf.gather(x.tensor, places.astype(np.int32), axis=x.axis(axis))
    return x.with_tensor(tensor, x.is_nonnegative)


@_converts("Pad")
def _pad(node: Node) -> Value:
    x = node.x.unflattened()
    pads, axes = node.numbers("pads", 1), node.numbers("axes", 3) or list(range(x.rank))
    value = node.attribute("value", 0.0) if node.opset < 11 else node.constant(2, np.array(0.0))
    if pads is None:
        raise Unsupported("its sizes are not constant")
    ends = {axis % x.rank: (pads[i], pads[i + len(axes)]) for i, axis in enumerate(axes)}
    bounds = [ends.get(axis, (0, 0)) for axis in x.order]
    if min(map(min, bounds)) < 0:
        raise Unsupported("negative padding is not covered")
    modes = {"constant": "CONSTANT", "reflect": "REFLECT"}
    mode = modes.get(node.attribute("mode", "constant"))
    edge = node.attribute("mode", "constant") == "edge" and max(map(max, bounds)) <= 1
    if mode is None and not edge:
        raise Unsupported(f"the mode {node.attribute('mode')} is not covered")
    tensor = tf.pad(x.tensor, bounds, mode or "SYMMETRIC", float(np.asarray(value).item()))
    return x.with_tensor(tensor, x.is_nonnegative and float(np.asarray(value).item()) >= 0)


@_converts("Expand")
def _expand(node: Node) -> Value:
    x, target = node.x.unflattened(), [int(size) for size in node.constant(1)]
    if len(target) > x.rank:
        x = _extended(x, len(target))
    target = [1] * (x.rank - len(target)) + target
    factors = [_factor(size, wanted) for size, wanted in zip(x.shape, target, strict=True)]
    tensor = x.tensor if max(factors) == 1 else tf.tile(x.tensor, [factors[a] for a in x.order])
    return x.with_tensor(tensor, x.is_nonnegative)


def _factor(size: int | None, wanted: int) -> int:
    return wanted if size == 1 else 1


@_converts("Tile")
def _tile(node: Node) -> Value:
    x, counts = node.x.unflattened(), [int(count) for count in node.constant(1)]
    return x.with_tensor(tf.tile(x.tensor, [counts[axis] for axis in x.order]), x.is_nonnegative)


@_converts("DepthToSpace", "SpaceToDepth")
def _depth_to_space(node: Node) -> Value:
    x, block = node.x.stored_as(channels_last(4)), node.attribute("blocksize")
    if node.kind == "SpaceToDepth":
        return x.with_tensor(tf.nn.space_to_depth(x.tensor, block), x.is_nonnegative)
    tensor = x.tensor
    if node.attribute("mode", "DCR") == "CRD":  # the channels come first, then the places
        channels = tensor.shape[-1]
        places = np.arange(channels).reshape(-1, block * block).T.reshape(-1)
        tensor = tf.gather(tensor, places.astype(np.int32), axis=-1)
    return x.with_tensor(tf.nn.depth_to_space(tensor, block), x.is_nonnegative)


@_converts("Resize", "Upsample")
def _resize(node: Node) -> Value:
    x = node.x.stored_as(channels_last(4))
    height, width = _resized(node, x)
    before = tf.TensorShape(x.stored_shape).as_list()[1:3]
    mode = node.attribute("mode", "nearest")
    default = "asymmetric" if node.kind == "Upsample" or node.opset < 11 else "half_pixel"
    place = node.attribute("coordinate_transformation_mode", default)
    if place == "pytorch_half_pixel" and min(height, width) > 1:
        place = "half_pixel"
    if place not in ("asymmetric", "half_pixel", "align_corners") or node.attribute("antialias", 0):
        raise Unsupported(f"{place} and antialias are not covered")
    settings = {
        "align_corners": place == "align_corners",
        "half_pixel_centers": place == "half_pixel",
    }
    if mode == "nearest":
        rounding = node.attribute("nearest_mode", "round_prefer_floor")
        is_floor = node.kind == "Upsample" or node.opset < 11 or rounding == "floor"
        whole = all(after % size == 0 for after, size in zip((height, width), before, strict=True))
        if not (place == "asymmetric" and is_floor) and not (place == "half_pixel" and whole):
            raise Unsupported(f"nearest with {place} and {rounding} is not covered")
        settings = {"align_corners": False, "half_pixel_centers": False}
        tensor = tf.raw_ops.ResizeNearestNeighbor(images=x.tensor, size=[height, width], **settings)
    elif mode in ("linear", "bilinear"):
        tensor = tf.raw_ops.ResizeBilinear(images=x.tensor, size=[height, width], **settings)
    else:
        raise Unsupported(f"the mode {mode} is not covered")
    return x.with_tensor(tensor, x.is_nonnegative)


def _resized(node: Node, x: Value) -> tuple[int, int]:
    """Return the height and the width of a resized image."""
    shape = x.shape
    if None in shape[1:]:
        raise Unsupported("the size of its input is not fixed")
    index = 1 if node.kind == "Upsample" or node.opset < 11 else 2
    sizes = node.constant(3) if index == 2 and len(node.inputs) > 3 else None
    if sizes is not None and len(sizes):
        wanted = [int(size) for size in sizes]
        wanted = wanted[-2:]
    else:
        scales = node.constant(index)
        scales = node.attribute("scales") if scales is None else scales
        exact = [
            float(scale) * (size or 0) for scale, size in zip(scales[-2:], shape[2:], strict=True)
        ]
        wanted = [round(size) for size in exact]
        if max(abs(a - b) for a, b in zip(exact, wanted, strict=True)) > 1e-3:
            raise Unsupported("its scales give no whole sizes")
    return wanted[0], wanted[1]
