"""Operators with weights, and normalization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lenet_edge.export.onnx_operators.node import Node, Unsupported, converts
from lenet_edge.export.onnx_operators.windows import around, geometry, padding_of
from lenet_edge.export.onnx_simplify import normalization
from lenet_edge.export.onnx_values import (
    Value,
    channels_last,
    plain,
)

import tensorflow as tf  # isort: skip


@converts("Conv")
def _conv(node: Node) -> Value:
    weights, bias = node.constant(1), node.constant(2)
    spatial = weights.ndim - 2
    if spatial not in (1, 2):
        raise Unsupported(f"it has {spatial} spatial axes, and 1 or 2 are covered")
    x = node.x.stored_as(channels_last(spatial + 2))
    tensor, kernel = x.tensor, list(weights.shape[2:])
    strides, dilations = geometry(node, kernel)
    padding, pads = padding_of(node, tensor.shape[1:-1], kernel, strides, dilations)
    if padding == "EXPLICIT":
        tensor, padding = tf.pad(tensor, around(pads)), "VALID"
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


@converts("ConvTranspose")
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
    strides, dilations = geometry(node, kernel)
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
        tensor = tf.pad(tensor, around([(count - 1, count - 1) for count in taps]))
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
        tensor = tf.pad(tensor, around([(0, size) for size in missing]))
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


@converts("Gemm")
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


@converts("MatMul")
def _matmul(node: Node) -> Value:
    first, second = node.x, node.input(1)
    if second.is_constant and first.rank > 1:
        weights = first.shuffle(second.plain().tensor, -2)
        tensor = first.tensor if first.flattened else first.plain().tensor
        return plain(tf.matmul(tensor, weights))
    return plain(tf.matmul(first.plain().tensor, second.plain().tensor))


@converts("BatchNormalization")
def _batch_normalization(node: Node) -> Value:
    factor, summand = normalization(node.proto, [node.constant(index) for index in range(1, 5)])
    channels = [value.astype(np.float32) for value in (factor, summand)]
    if node.x.rank > 2:
        x = node.x.stored_as(channels_last(node.x.rank))
    else:
        x, channels = node.x, [node.x.shuffle(value, 0) for value in channels]
    return x.with_tensor(x.tensor * channels[0] + channels[1])


@converts("InstanceNormalization")
def _instance_normalization(node: Node) -> Value:
    x = node.x.stored_as(channels_last(node.x.rank))
    axes = list(range(1, x.rank - 1))
    normal = _normal(x.tensor, axes, node.attribute("epsilon", 1e-5))
    return x.with_tensor(normal * node.constant(1) + node.constant(2))


@converts("LayerNormalization")
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
