"""Pools, reductions and softmax."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lenet_edge.export.onnx_operators.node import Node, Unsupported, converts
from lenet_edge.export.onnx_operators.windows import around, geometry, padding_of
from lenet_edge.export.onnx_values import (
    Order,
    Value,
    channels_last,
)

import tensorflow as tf  # isort: skip


@converts("MaxPool", "AveragePool")
def _pool(node: Node) -> Value:
    kernel = list(node.attribute("kernel_shape"))
    strides, dilations = geometry(node, kernel)
    if len(kernel) not in (1, 2) or max(dilations) > 1 or len(node.proto.output) > 1:
        raise Unsupported("dilations, indices and three spatial axes are not covered")
    x = node.x.stored_as(channels_last(len(kernel) + 2))
    tensor = x.tensor
    padding, pads = padding_of(node, tensor.shape[1:-1], kernel, strides, dilations)
    if any(max(pad) >= size for pad, size in zip(pads, kernel, strict=True)):
        raise Unsupported("it pads as much as its window")
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
    return tf.pad(tensor, around(pads), mode), "VALID"


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
    result = tf.nn.avg_pool2d(tf.pad(tensor, around(pads)), kernel, strides, "VALID")
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


@converts("GlobalAveragePool", "GlobalMaxPool")
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


@converts(*_REDUCTIONS)
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


@converts("ArgMax", "ArgMin")
def _arg(node: Node) -> Value:
    x = node.x.unflattened()
    axis = node.attribute("axis", 0) % x.rank
    find = tf.argmax if node.kind == "ArgMax" else tf.argmin
    tensor = find(x.tensor, x.axis(axis), output_type=tf.int64)
    if node.attribute("keepdims", 1):
        return Value(tf.expand_dims(tensor, x.axis(axis)), x.order)
    return Value(tensor, _renumbered([a for a in x.order if a != axis]))


@converts("Softmax", "LogSoftmax")
def _softmax(node: Node) -> Value:
    x = node.x.unflattened()
    function = tf.nn.softmax if node.kind == "Softmax" else tf.nn.log_softmax
    axis = node.attribute("axis", -1 if node.opset >= 13 else 1) % x.rank
    if node.opset < 13 and axis != x.rank - 1:
        raise Unsupported("before opset 13 only the softmax of the last axis is covered")
    return x.with_tensor(function(x.tensor, x.axis(axis)), node.kind == "Softmax")
