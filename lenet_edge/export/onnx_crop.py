"""Cut off the pixels of an ONNX model's images that nothing in it ever sees.

A pool of stride 2 drops the last row and column of an odd size, and with them all that was
computed for them. LeNet pools 11 x 11 values to 5 x 5, so 26 x 26 of its 28 x 28 pixels do: an
eighth fewer multiplications, for the same logits to the bit.

For int8 only. A Slice costs ONNX Runtime 0.8 µs a call; in float, at batch 1, that is all it saves.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lenet_edge.export.onnx_graph import Graph, attribute

from onnx import helper  # isort: skip

_ELEMENTWISE = ("Relu", "LeakyRelu", "Sigmoid", "Tanh")
_WORTH = 0.9  # of the pixels, at most, may be left: the Slice costs a node

Window = list[tuple[int, int]]  # for each axis: inputs that an output sees, and its step


def crop(model: Any) -> Any:
    """Return an `onnx.ModelProto` that answers as `model` does and computes nothing in vain.

    A Slice goes before each chain of convolutions and pools without padding that takes less than
    it is given. Other models stay as they are.
    """
    graph = Graph(model)
    seen: set[str] = set()  # values within a chain
    for first in list(graph.nodes):
        if first.op_type != "Conv" or first.input[0] in seen:
            continue
        last, windows = first, []
        while (window := _window(graph, last)) is not None:
            windows.append(window)
            seen.add(last.output[0])
            after = graph.only_consumer(last)
            if after is None or after.input[0] != last.output[0] or not _window(graph, after):
                break
            last = after
        given, made = graph.shape(first.input[0]), graph.shape(last.output[0])
        if not windows or not given or not made or None in (*given[2:], *made[2:]):
            continue
        sizes = [size for size in made[2:] if size is not None]
        for window in reversed(windows):
            sizes = [(n - 1) * step + reach for n, (reach, step) in zip(sizes, window, strict=True)]
        if math.prod(sizes) <= _WORTH * math.prod(size or 0 for size in given[2:]):
            _slice(graph, first, sizes)
    return graph.finish()


def _window(graph: Graph, node: Any) -> Window | None:
    """Return what each output of a node sees; None where it is no window of inputs alone."""
    shape = graph.shape(node.input[0]) if node.input else None
    if not shape or len(node.output) != 1:
        return None
    axes = len(shape) - 2
    if node.op_type in _ELEMENTWISE:
        return [(1, 1)] * axes
    if node.op_type == "Conv":
        kernel: Any = (graph.shape(node.input[1]) or ())[2:]
    elif node.op_type in ("MaxPool", "AveragePool"):
        kernel = attribute(node, "kernel_shape")
    else:
        return None
    padded = any(attribute(node, "pads") or ()) or attribute(node, "ceil_mode")
    if padded or attribute(node, "auto_pad") not in (None, b"NOTSET", b"VALID"):
        return None
    if len(kernel) != axes or None in kernel:
        return None
    steps = attribute(node, "strides") or [1] * axes
    spread = attribute(node, "dilations") or [1] * axes
    return [
        ((size - 1) * apart + 1, step)
        for size, apart, step in zip(kernel, spread, steps, strict=True)
    ]


def _slice(graph: Graph, node: Any, sizes: list[int]) -> None:
    """Cut what a node takes to `sizes`, from the first value of each axis but batch and channel."""
    value = node.input[0]
    axes = range(2, 2 + len(sizes))
    bounds = {"starts": [0] * len(sizes), "ends": sizes, "axes": list(axes)}
    for name, numbers in bounds.items():
        graph.add_constant(f"{value}/{name}", np.array(numbers, np.int64))
    names = [value, *(f"{value}/{name}" for name in bounds)]
    node.input[0] = f"{value}/cropped"
    graph.nodes.insert(graph.nodes.index(node), helper.make_node("Slice", names, [node.input[0]]))
