"""Operators that compute each element on its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lenet_edge.export.onnx_operators.node import OPERATORS, Node, Unsupported, converts
from lenet_edge.export.onnx_values import (
    Value,
    extended,
    is_nonnegative_value,
)

import tensorflow as tf  # isort: skip


def _hard_sigmoid(node: Node) -> Value:
    alpha, beta = node.attribute("alpha", 0.2), node.attribute("beta", 0.5)
    x = node.x.tensor
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return node.x.with_tensor(tf.nn.relu6(x + 3.0) * np.float32(1 / 6), True)
    return node.x.with_tensor(tf.clip_by_value(alpha * x + beta, 0.0, 1.0), True)


OPERATORS["HardSigmoid"] = _hard_sigmoid

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


@converts(*_UNARY)
def _unary(node: Node) -> Value:
    result = _UNARY[node.kind](node.x.tensor)
    return node.x.with_tensor(result, node.kind in _NONNEGATIVE)


@converts("Identity", "Dropout")
def _identity(node: Node) -> Value:
    return node.x


@converts("Cast")
def _cast(node: Node) -> Value:
    types = {1: tf.float32, 6: tf.int32, 7: tf.int64, 9: tf.bool}
    if node.attribute("to") not in types:
        raise Unsupported("it casts to a type that lenet-edge does not convert")
    tensor = tf.cast(node.x.tensor, types[node.attribute("to")])
    return node.x.with_tensor(tensor, node.x.is_nonnegative)


@converts("LeakyRelu")
def _leaky_relu(node: Node) -> Value:
    return node.x.with_tensor(tf.nn.leaky_relu(node.x.tensor, node.attribute("alpha", 0.01)))


@converts("Elu")
def _elu(node: Node) -> Value:
    if node.attribute("alpha", 1.0) != 1:
        raise Unsupported("its alpha is not 1")
    return node.x.with_tensor(tf.nn.elu(node.x.tensor))


@converts("Gelu")
def _gelu(node: Node) -> Value:
    approximate = node.attribute("approximate", "none") == "tanh"
    return node.x.with_tensor(tf.nn.gelu(node.x.tensor, approximate))


@converts("Clip")
def _clip(node: Node) -> Value:
    low, high = (
        node.attribute(name) if node.opset < 11 else node.constant(index)
        for index, name in ((1, "min"), (2, "max"))
    )
    low, high = (None if end is None else np.asarray(end).item() for end in (low, high))
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


@converts("PRelu")
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


@converts(*_BINARY, "Sum", "Mean")
def _binary(node: Node) -> Value:
    values = [value for value in node.inputs if value is not None]
    if node.kind in ("Add", "Mul") and len(values) == 2 and values[0].is_constant:
        values.reverse()  # the constant second, as TensorFlow Lite fuses it
    # The order of the largest value decides.
    main = max((v for v in values if not v.is_constant), key=lambda v: v.rank, default=values[0])
    rank = max(value.rank for value in values)
    if rank > main.rank:
        main = extended(main.unflattened(), rank)
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
    is_nonnegative = keeps_sign and all(is_nonnegative_value(value) for value in values)
    return main.with_tensor(result, is_nonnegative)


def _keeps_order(main: Value, value: Value) -> bool:
    """Return True if a value can be combined with another whose last axis has its own order."""
    if value.is_constant:
        return value.rank <= main.rank
    return (value.flattened, value.flat_order, value.order) == (
        main.flattened,
        main.flat_order,
        main.order,
    )


def _aligned(main: Value, values: Sequence[Value]) -> list[Any]:
    """Return the tensors of values, their axes stored as those of `main`, for broadcasting."""
    tensors = []
    for value in values:
        if value.tensor is main.tensor:
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
            wide = wide if wide.rank == main.rank else extended(wide, main.rank)
            tensors.append(wide.stored_as(main.order).tensor)
    return tensors


@converts("Where")
def _where(node: Node) -> Value:
    values = [node.input(index) for index in range(3)]
    main = max(values, key=lambda value: (value.rank, not value.is_constant)).unflattened()
    return main.with_tensor(tf.where(*_aligned(main, values)))
