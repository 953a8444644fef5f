"""ONNX files with trained ranges, written step by step from the network of the training.

Activations have the trained scales and zero points, and weights the trained integers. Each value
is quantized once, and operators read it through DequantizeLinear. ONNX Runtime fuses these nodes
with the operator between them into an operator of integers. It also removes pairs of Transpose,
because its operators of integers have the channels last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lenet_edge.artifacts.trained_ranges import INPUT, TrainedRanges
from lenet_edge.fake_quantization import FakeQuantizedNetwork
from lenet_edge.quantized_steps import QuantizedStep, source_of

from onnx import TensorProto, helper, numpy_helper  # isort: skip

# Activations are uint8: on x86, ONNX Runtime converts int8 to uint8 and then fuses fewer nodes.
_UNSIGNED = 128  # uint8 minus int8
# Rounds halves of an average away from 0, as the training does. The factor exceeds the error of
# float32, and is too small to change another average.
_AWAY_FROM_ZERO = 1 + 1e-5
_IR_VERSION = 8  # of operator set 17

Shape = tuple[int, ...]  # of one image, without the batch


class TrainedGraph:
    """Writer of the quantized ONNX graph of a network."""

    def __init__(
        self, network: FakeQuantizedNetwork, ranges: TrainedRanges, has_unsigned_weights: bool
    ) -> None:
        """Prepare an empty graph.

        Args:
            network: the network of the training, with its ranges.
            ranges: its trained ranges.
            has_unsigned_weights: True stores weights as uint8 with the zero point 128, False as
                int8.
        """
        self._network, self._ranges = network, ranges
        self._weights_zero = _UNSIGNED if has_unsigned_weights else 0
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._shapes: dict[QuantizedStep, Shape] = {}  # channels first
        self._integers: dict[QuantizedStep, str] = {}  # the names of the rounded outputs
        self._values: dict[QuantizedStep, str] = {}  # and of the same, dequantized
        self._writers: dict[str, Callable[[QuantizedStep, Shape], Shape]] = {
            "conv": self._convolve,
            "depthwise": self._convolve,
            "dense": self._multiply,
            "add": self._add,
            "mean": self._mean,
            "max_pool": self._max_pool,
            "average_pool": self._average_pool,
            "pad": self._pad,
            "reshape": self._change_shape,
            "relu": self._relu,
            "relu6": self._relu,
            "softmax": self._softmax,
        }

    def write(self, image_shape: Shape, batch_size: int | None, opset: int) -> Any:
        """Return the `onnx.ModelProto`.

        Args:
            image_shape: the shape of an image, channels last.
            batch_size: None leaves the batch free.
            opset: the version of the operator set.

        Raises:
            ModelFileError: the ranges are those of another model.
        """
        entry, *steps = self._network.steps
        self._shapes[entry] = _channels_first(image_shape)
        self._round(entry, self._transpose(INPUT, image_shape, (0, 3, 1, 2)))
        for step in steps:
            self._shapes[step] = self._writers[step.kind](step, self._shapes[step.inputs[0]])
        shape = self._shapes[steps[-1]]
        output = self._transpose(self._value(steps[-1]), shape, (0, 2, 3, 1))
        ends = ((INPUT, image_shape), (output, _channels_last(shape)))
        inputs, outputs = (
            [
                helper.make_tensor_value_info(
                    name, TensorProto.FLOAT, (batch_size or "batch", *sizes)
                )
            ]
            for name, sizes in ends
        )
        constants = [*self._constants.values()]
        graph = helper.make_graph(self._nodes, "model", inputs, outputs, constants)
        opsets = [helper.make_opsetid("", opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)

    def _convolve(self, step: QuantizedStep, shape: Shape) -> Shape:
        layer = step.layer
        groups, channels = 1, step.kernel.shape[-1]
        if step.kind == "depthwise":
            groups, channels = shape[0], shape[0] * channels
        strides, dilations, padding = (1, 1), (1, 1), "valid"
        if not step.is_pointwise:
            strides, dilations, padding = layer.strides, layer.dilation_rate, layer.padding
        window, sizes = _window(shape[1:], step.kernel.shape[:2], strides, padding, dilations)
        values = self._value(step.inputs[0]), *self._weights(step)
        self._round(step, self._node("Conv", *values, **window, group=groups))
        return (channels, *sizes)

    def _multiply(self, step: QuantizedStep, shape: Shape) -> Shape:
        values = self._value(step.inputs[0]), *self._weights(step)
        self._round(step, self._node("Gemm", *values))
        return tuple(step.kernel.shape[1:])

    def _weights(self, step: QuantizedStep) -> list[str]:
        """Return the names of the dequantized kernel, and of the bias if it is not 0."""
        kernel, scales, bias = self._network.weights(step, self._ranges)
        source, _ = self._scale(step.inputs[0])
        kernel = (kernel + self._weights_zero).astype(np.uint8 if self._weights_zero else np.int8)
        zeros = np.full(scales.shape, self._weights_zero, kernel.dtype)
        axis = 1
        if step.kind != "dense":
            kernel, axis = kernel.transpose(3, 2, 0, 1), 0
        parts = [
            self._constant(f"{step.name} kernel", kernel),
            self._constant(f"{step.name} kernel scales", scales),
            self._constant(f"{scales.shape} zeros", zeros),
        ]
        names = [self._node("DequantizeLinear", *parts, axis=axis)]
        if bias.any():
            scales = scales * source
            parts = [
                self._constant(f"{step.name} bias", np.round(bias / scales).astype(np.int32)),
                self._constant(f"{step.name} bias scales", scales),
            ]
            names.append(self._node("DequantizeLinear", *parts, axis=0))
        return names

    def _add(self, step: QuantizedStep, shape: Shape) -> Shape:
        values = [self._value(source) for source in step.inputs]
        self._round(step, self._node("Add", *values))
        return shape

    def _mean(self, step: QuantizedStep, shape: Shape) -> Shape:
        self._round(step, self._node("GlobalAveragePool", self._value(step.inputs[0])))
        if step.layer.keepdims:
            return (shape[0], 1, 1)
        # The average is rounded first, because ONNX Runtime fuses it with a rounding only.
        self._round(step, self._reshape(self._value(step), shape[:1]))
        del self._values[step]  # of the other shape
        return shape[:1]

    def _max_pool(self, step: QuantizedStep, shape: Shape) -> Shape:
        layer = step.layer
        window, sizes = _window(shape[1:], layer.pool_size, layer.strides, layer.padding)
        self._round(step, self._node("MaxPool", self._value(step.inputs[0]), **window))
        return (shape[0], *sizes)

    def _average_pool(self, step: QuantizedStep, shape: Shape) -> Shape:
        """Average the integers as int8, whose 0 decides the direction of the rounding."""
        layer = step.layer
        window, sizes = _window(shape[1:], layer.pool_size, layer.strides, layer.padding)
        names = self._scale_names(_AWAY_FROM_ZERO, 0)
        value = self._node("DequantizeLinear", self._integers[step.inputs[0]], *names)
        average = self._node("AveragePool", value, **window)
        self._integers[step] = self._node("QuantizeLinear", average, *self._scale_names(1, 0))
        return (shape[0], *sizes)

    def _pad(self, step: QuantizedStep, shape: Shape) -> Shape:
        (top, bottom), (left, right) = step.layer.padding
        pads = np.array((0, 0, top, left, 0, 0, bottom, right), np.int64)
        _, zero = self._scale_names(*self._scale(step))
        names = self._integers[step.inputs[0]], self._constant(f"{step.name} pads", pads), zero
        self._integers[step] = self._node("Pad", *names)
        return (shape[0], shape[1] + top + bottom, shape[2] + left + right)

    def _change_shape(self, step: QuantizedStep, shape: Shape) -> Shape:
        target = tuple(step.layer.output.shape[1:])
        value = self._transpose(self._value(step.inputs[0]), shape, (0, 2, 3, 1))
        value = self._reshape(value, target)
        self._round(step, self._transpose(value, target, (0, 3, 1, 2)))
        return _channels_first(target)

    def _relu(self, step: QuantizedStep, shape: Shape) -> Shape:
        self._round(step, self._node("Relu", self._value(step.inputs[0])))
        return shape

    def _softmax(self, step: QuantizedStep, shape: Shape) -> Shape:
        axis = 1 if len(shape) == 3 else -1
        self._values[step] = self._node("Softmax", self._value(step.inputs[0]), axis=axis)
        return shape

    def _round(self, step: QuantizedStep, value: str) -> None:
        """Round the output of a step.

        The range starts at 0 if the step has a ReLU, and ends at 6 or less if it has a ReLU6, so
        that the rounding cuts off the other values.
        """
        names = self._scale_names(*self._scale(step))
        self._integers[step] = self._node("QuantizeLinear", value, *names)

    def _value(self, step: QuantizedStep) -> str:
        """Return the name of the dequantized output of a step."""
        if step not in self._values:
            names = self._scale_names(*self._scale(step))
            self._values[step] = self._node("DequantizeLinear", self._integers[step], *names)
        return self._values[step]

    def _scale(self, step: QuantizedStep) -> tuple[np.float32, int]:
        """Return the scale of the output of a step, and its zero point as int8."""
        low, high = self._network.ranges[source_of(step).name].numpy()
        scale = (high - low) / np.float32(255)
        return scale, -128 - round(float(low / scale))

    def _scale_names(self, scale: float | np.float32, zero: int) -> list[str]:
        return [
            self._constant(f"scale {scale}", np.float32(scale)),
            self._constant(f"zero {zero}", np.uint8(zero + _UNSIGNED)),
        ]

    def _transpose(self, value: str, shape: Shape, order: Shape) -> str:
        """Change the order of the axes of images of a shape; leave other values."""
        return self._node("Transpose", value, perm=order) if len(shape) == 3 else value

    def _reshape(self, value: str, shape: Shape) -> str:
        target = np.array((-1, *shape), np.int64)
        return self._node("Reshape", value, self._constant(f"shape {shape}", target))

    def _constant(self, name: str, array: Any) -> str:
        array = np.asarray(array, order="C")
        self._constants.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def _node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"value {len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name


def _window(
    sizes: Shape, kernel: Shape, strides: Shape, padding: str, dilations: Shape = (1, 1)
) -> tuple[dict[str, Any], Shape]:
    """Return the attributes of a convolution or a pool, and height and width of its output."""
    before, after, results = [], [], []
    for size, length, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        reach, missing = (length - 1) * dilation + 1, 0
        if padding == "same":
            missing = max((math.ceil(size / stride) - 1) * stride + reach - size, 0)
        before.append(missing // 2)
        after.append(missing - missing // 2)
        results.append((size + missing - reach) // stride + 1)
    window: dict[str, Any] = {"kernel_shape": kernel, "strides": strides}
    if any(after):
        window["pads"] = (*before, *after)
    if tuple(dilations) != (1, 1):
        window["dilations"] = dilations
    return window, tuple(results)


def _channels_first(shape: Shape) -> Shape:
    return (shape[2], *shape[:2]) if len(shape) == 3 else shape


def _channels_last(shape: Shape) -> Shape:
    return (*shape[1:], shape[0]) if len(shape) == 3 else shape
