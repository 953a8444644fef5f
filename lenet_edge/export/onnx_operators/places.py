"""Operators that move, join and cut values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lenet_edge.export.onnx_operators.node import Node, Result, Unsupported, converts
from lenet_edge.export.onnx_values import (
    Value,
    channels_last,
    extended,
    is_nonnegative_value,
    reshape_value,
)

import tensorflow as tf  # isort: skip


@converts("Reshape")
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


@converts("Flatten")
def _flatten(node: Node) -> Value:
    axis, shape = node.attribute("axis", 1), node.x.shape
    axis = axis % len(shape) if axis < 0 else axis
    sides = [shape[:axis], shape[axis:]]
    joined = [None if None in side else math.prod(size or 0 for size in side) for side in sides]
    return reshape_value(node.x, joined)


@converts("Squeeze", "Unsqueeze")
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


@converts("Transpose")
def _transpose(node: Node) -> Value:
    x = node.x.unflattened()
    perm = list(node.attribute("perm", range(x.rank)[::-1]))
    order = tuple(perm.index(axis) for axis in x.order)
    return Value(x.tensor, order, is_nonnegative=x.is_nonnegative)


@converts("Concat")
def _concat(node: Node) -> Value:
    values = [value.unflattened() for value in node.inputs if value is not None]
    main = next((value for value in values if not value.is_constant), values[0])
    tensors = [value.stored_as(main.order).tensor for value in values]
    result = tf.concat(tensors, main.axis(node.attribute("axis", 0)))
    return main.with_tensor(result, all(map(is_nonnegative_value, values)))


@converts("Split")
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


@converts("Slice")
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


@converts("Gather")
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


@converts("Pad")
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


@converts("Expand")
def _expand(node: Node) -> Value:
    x, target = node.x.unflattened(), [int(size) for size in node.constant(1)]
    if len(target) > x.rank:
        x = extended(x, len(target))
    target = [1] * (x.rank - len(target)) + target
    factors = [_factor(size, wanted) for size, wanted in zip(x.shape, target, strict=True)]
    tensor = x.tensor if max(factors) == 1 else tf.tile(x.tensor, [factors[a] for a in x.order])
    return x.with_tensor(tensor, x.is_nonnegative)


def _factor(size: int | None, wanted: int) -> int:
    return wanted if size == 1 else 1


@converts("Tile")
def _tile(node: Node) -> Value:
    x, counts = node.x.unflattened(), [int(count) for count in node.constant(1)]
    return x.with_tensor(tf.tile(x.tensor, [counts[axis] for axis in x.order]), x.is_nonnegative)


@converts("DepthToSpace", "SpaceToDepth")
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


@converts("Resize", "Upsample")
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
