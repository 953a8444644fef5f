"""Passes over a .tflite graph that make its C file smaller and faster, and keep every bit."""

from __future__ import annotations

import math

import numpy as np

from lenet_edge.export.native.coverage import (
    constant_numbers,
    geometry,
    strides_of,
    window_of,
)
from lenet_edge.export.native.tflite_graph import Operator, OperatorGraph, Tensor

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


def simplify(graph: OperatorGraph) -> None:
    """Compute constants, and drop operators that no output needs. It precedes all checks."""
    for operator in graph.operators:
        if operator.kind == "DEQUANTIZE" and len(operator.inputs) == 1:
            source = operator.input()
            if source.values is not None and source.dtype == "float16":
                operator.output.values = source.values.astype(np.float32)
    kept: list[Operator] = []
    needed = {id(tensor) for tensor in graph.outputs}
    for operator in reversed(graph.operators):
        is_constant = all(tensor.values is not None for tensor in operator.outputs)
        if is_constant or not any(id(tensor) in needed for tensor in operator.outputs):
            continue
        kept.append(operator)
        # The shape of a RESHAPE is that of its output; operators that compute it are not needed.
        inputs = operator.inputs[:1] if operator.kind == "RESHAPE" else operator.inputs
        needed |= {id(tensor) for tensor in inputs if tensor is not None}
    graph.operators = kept[::-1]


def optimize(graph: OperatorGraph) -> None:
    """Apply all passes to a graph that has been checked."""
    _fold_padding(graph)
    _fuse_pools(graph)


def stored_zero(tensor: Tensor) -> int:
    """Return the zero point as the C file stores it: uint8 integers are kept 128 lower."""
    return tensor.zero - (128 if tensor.dtype == "uint8" else 0)


def _fold_padding(graph: OperatorGraph) -> None:
    """Let convolutions pad instead of a PAD before them."""
    for pad in [each for each in graph.operators if each.kind in ("PAD", "PADV2")]:
        consumers = graph.consumers(pad.output)
        amounts = constant_numbers(pad.input(1)) or []
        source = pad.input()
        if (
            pad.output in graph.outputs
            or len(source.shape) != 4
            or any(amounts[:2]) or any(amounts[6:])
            or not all(
                each.kind in CONVOLUTIONS and each.inputs[0] is pad.output
                and not any(other is pad.output for other in each.inputs[1:])
                for each in consumers
            )
            or source.values is not None
            or not _pads_with_zero(pad)
        ):  # fmt: skip
            continue
        for consumer in consumers:
            above, below, left, right = consumer.padding or geometry(consumer)[1]
            consumer.padding = (
                above + amounts[2], below + amounts[3], left + amounts[4], right + amounts[5]
            )  # fmt: skip
            consumer.inputs[0] = source
        graph.operators.remove(pad)


def pad_value(pad: Operator) -> float:
    """Return the number that a PAD fills in: a stored integer, or a float."""
    output = pad.output
    if len(pad.inputs) > 2:
        values = pad.input(2).values
        assert values is not None
        number = values.ravel()[0]
        if output.dtype == "float32":
            return float(number)
        return int(number) - (128 if output.dtype == "uint8" else 0)
    return 0.0 if output.dtype == "float32" else stored_zero(output)


def _pads_with_zero(pad: Operator) -> bool:
    zero = 0 if pad.output.dtype == "float32" else stored_zero(pad.output)
    return pad_value(pad) == zero


def _fuse_pools(graph: OperatorGraph) -> None:
    """Let a convolution do the max-pool behind it, if no window overlaps or is cut."""
    for pool in [each for each in graph.operators if each.kind == "MAX_POOL_2D"]:
        conv = graph.producer(pool.input())
        if conv is None or conv.kind != "CONV_2D" or conv.output in graph.outputs:
            continue
        size, strides = window_of(pool), strides_of(pool)
        _, padding = geometry(pool)
        is_apart = all(length <= step for length, step in zip(size, strides, strict=True))
        if graph.consumers(conv.output) != [pool] or any(padding) or not is_apart:
            continue
        if conv.pool is not None or math.prod(size) == 1:
            continue
        conv.pool = pool
        conv.outputs = [pool.output]
        graph.operators.remove(pool)
