"""Bytes and instructions of a network, computed from its description before it is trained.

The bytes are exact: weights in their precision, and biases of four bytes. The instructions are a
linear model of the C file on a Cortex-M4. Its coefficients are a least-squares fit to the counts of
the layers of five networks in QEMU (GCC 12.2, -O3). The sums of these networks are within 8 % of
their counts in int8, and within 37 % in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lenet_edge.networks import Architecture, Block

PRECISIONS = ("float32", "int8", "int4")
_BIAS_BYTES = 4
_WEIGHT_BITS = {"float32": 32, "int8": 8, "int4": 4}  # int4 is that of dense layers only


@dataclass(frozen=True)
class LayerShape:
    """A layer with the sizes that its costs depend on.

    Attributes:
        kind: "conv", "depthwise", "dense", "average" or "add".
        products: multiplications of one inference.
        outputs: values of the output.
        window: values that one output of a convolution is computed from, times the positions.
        weights: number of weights.
        channels: number of biases.
    """

    kind: Literal["conv", "depthwise", "dense", "average", "add"]
    products: int
    outputs: int
    window: int = 0
    weights: int = 0
    channels: int = 0


# Instructions for each product, each output and each value of a window.
_COEFFICIENTS = {
    "int8": {
        "conv": (1.19, 34.1, 1.1), "depthwise": (9.36, 57.0, 0.0), "dense": (1.47, 43.9, 0.0),
        "average": (3.75, 0.0, 0.0), "add": (0.0, 37.0, 0.0),
    },
    "float32": {
        "conv": (2.2, 44.9, 0.0), "depthwise": (3.06, 19.9, 0.0), "dense": (2.29, 14.3, 0.0),
        "average": (6.5, 0.0, 0.0), "add": (0.0, 11.7, 0.0),
    },
}  # fmt: skip
_COEFFICIENTS["int4"] = {**_COEFFICIENTS["int8"], "dense": (2.2, 43.9, 0.0)}


@dataclass(frozen=True)
class Cost:
    """Bytes of weights and biases, and estimated instructions of an inference on a Cortex-M4."""

    num_bytes: int
    instructions: int


def estimate_cost(
    architecture: Architecture, precision: str, image_shape: tuple[int, int, int], num_classes: int
) -> Cost:
    """Compute the cost of a network.

    Args:
        architecture: the network, without BatchNorm, which export folds.
        precision: an element of `PRECISIONS`.
        image_shape: height, width and channels.
        num_classes: the number of classes.
    """
    num_bytes, instructions = 0, 0.0
    for layer in _layers(architecture, image_shape, num_classes):
        bits = 8 if precision == "int4" and layer.kind != "dense" else _WEIGHT_BITS[precision]
        num_bytes += -(-layer.weights * bits // 8) + layer.channels * _BIAS_BYTES
        product, output, window = _COEFFICIENTS[precision][layer.kind]
        instructions += product * layer.products + output * layer.outputs + window * layer.window
    return Cost(num_bytes, round(instructions))


def _layers(
    architecture: Architecture, image_shape: tuple[int, int, int], num_classes: int
) -> Iterator[LayerShape]:
    height, width, channels = image_shape
    for block in architecture.blocks:
        size = _output_size((height, width), block, block.stride)
        yield from _convolution(block, channels, size)
        if block.residual:
            yield from _convolution(block, block.width, size)
            if block.stride != 1 or channels != block.width:
                yield _plain(1, channels, block.width, size)
            yield LayerShape("add", 0, size[0] * size[1] * block.width)
        (height, width), channels = size, block.width
    values = height * width * channels
    if architecture.head == "average":
        yield LayerShape("average", values, channels)
        values = channels
    for units in (*architecture.dense, num_classes):
        yield LayerShape("dense", values * units, units, 0, values * units, units)
        values = units


def _output_size(size: tuple[int, int], block: Block, stride: int) -> tuple[int, int]:
    lost = block.kernel - 1 if block.padding == "valid" else 0
    return -(-(size[0] - lost) // stride), -(-(size[1] - lost) // stride)


def _convolution(block: Block, channels: int, size: tuple[int, int]) -> Iterator[LayerShape]:
    if not block.depthwise:
        yield _plain(block.kernel, channels, block.width, size)
        return
    taps, outputs = block.kernel**2, size[0] * size[1] * channels
    yield LayerShape("depthwise", taps * outputs, outputs, 0, taps * channels, channels)
    yield _plain(1, channels, block.width, size)


def _plain(kernel: int, channels: int, filters: int, size: tuple[int, int]) -> LayerShape:
    positions, weights = size[0] * size[1], kernel**2 * channels * filters
    window = positions * kernel**2 * channels
    return LayerShape("conv", positions * weights, positions * filters, window, weights, filters)
