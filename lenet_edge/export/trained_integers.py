"""The network of a quantized training in the fixed-point arithmetic of the exported C file.

`FakeQuantizedNetwork` scales sums by float factors, as XNNPACK does. The C and WebAssembly files
and TensorFlow Lite's reference kernels scale them by integers and shifts, and some results differ
by 1. This network has the trained weights and ranges, and never reads the exported file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.trained_ranges import TrainedRanges
from lenet_edge.export.native import fixed_point
from lenet_edge.fake_quantization import FakeQuantizedNetwork
from lenet_edge.quantized_steps import QuantizedStep, source_of

# Whole numbers: float64 represents them all, and TensorFlow has each operator for it.
Values = npt.NDArray[np.float64]


class IntegerNetwork:
    """A network of quantized training that computes with integers only."""

    def __init__(self, model: Any, ranges: TrainedRanges) -> None:
        """Read the layers of a model.

        Raises:
            ModelFileError: a layer is not covered, or the ranges are those of another model.
        """
        self._network = FakeQuantizedNetwork.load(model, ranges)
        self._weights = {
            step: self._network.weights(step, ranges)
            for step in self._network.steps
            if step.kernel is not None
        }
        # The file has scales in float32, but the converter rounds a bias before with float64.
        limits = ranges.activations
        self._exact_scales = {name: (high - low) / 255 for name, (low, high) in limits.items()}
        self._scales = {name: float(np.float32(each)) for name, each in self._exact_scales.items()}
        self._zeros = {
            name: round(-128 - low / self._scales[name]) for name, (low, _) in limits.items()
        }

    def __call__(self, images: Any, training: bool = False) -> npt.NDArray[np.float32]:
        """Return the logits, without a softmax at the end.

        Args:
            images: float32 of shape (batch, height, width, channels).
            training: no effect; Keras models have it.
        """
        values: dict[QuantizedStep, Values] = {}  # integers minus their zero point
        for step in self._network.steps:
            inputs = [values[each] for each in step.inputs] or [np.asarray(images)]
            result = inputs[0] if step.kind == "softmax" else self._compute(step, inputs)
            values[step] = np.asarray(result, np.float64)
        last = self._network.steps[-1]
        return np.asarray(values[last] * self._scale(last), np.float32)

    def _scale(self, step: QuantizedStep) -> float:
        return self._scales[source_of(step).name]

    def _compute(self, step: QuantizedStep, inputs: list[Values]) -> Any:
        """Return the integers of a step, minus their zero point."""
        if step.kind == "average_pool":
            zero = self._zeros[source_of(step).name]
            # TensorFlow's average of a half may be a little less. The factor makes up for it.
            return _round(np.asarray(step.other([inputs[0] + zero])) * (1 + 1e-9)) - zero
        if not step.has_range:
            return step.other(inputs)
        results = self._scaled(step, inputs)
        zero, scale = self._zeros[step.name], np.float32(self._scales[step.name])
        low, high = -128 - zero, 127 - zero
        activation = step.activation or step.kind
        if activation in ("relu", "relu6"):
            low = max(low, 0)
        if activation == "relu6":
            high = min(high, int(_round(np.float32(6) / scale)))
        return np.clip(results, low, high)

    def _scaled(self, step: QuantizedStep, inputs: list[Values]) -> Any:
        """Return the results of a step with a scale of its own, before they are clamped."""
        scale = self._scales[step.name]
        if step.kind == "input":
            return np.rint(inputs[0] / np.float32(scale))
        if step.kernel is not None:
            return self._multiplied(step, inputs[0])
        scales = [self._scale(each) for each in step.inputs]
        integers = [each.astype(np.int64) for each in inputs]
        if step.kind == "add":
            pairs = fixed_point.sum_multipliers(scales[0], scales[1], scale)
            left, right = (
                fixed_point.scale_twice(each << fixed_point.SUM_BITS, *pairs[name])
                for each, name in zip(integers, ("a_", "b_"), strict=True)
            )
            return fixed_point.scale_twice(left + right, *pairs[""])
        if step.kind == "mean":
            _, rows, cols, _ = integers[0].shape
            sums = integers[0].sum((1, 2), keepdims=step.layer.keepdims)
            pair = fixed_point.mean_multiplier(scales[0] / scale, rows * cols)
            return fixed_point.scale_twice(sums, *pair)
        ratio = np.float32(scales[0]) / np.float32(scale)  # of an activation alone
        return fixed_point.scale_twice(integers[0], *fixed_point.quantize_multiplier(float(ratio)))

    def _multiplied(self, step: QuantizedStep, values: Values) -> Any:
        """Return the scaled sums of a step with weights."""
        kernel, scales, bias = self._weights[step]
        source = source_of(step.inputs[0]).name
        largest = 2 ** (self._network.bits(step) - 1) - 1
        exact_scales = (np.float32(largest) * scales).astype(np.float64) / largest
        bias = np.rint(bias / (self._exact_scales[source] * exact_scales))
        sums = np.asarray(step.linear(values, kernel.astype(np.float64))) + bias
        factors = self._scales[source] * scales.astype(np.float64) / self._scales[step.name]
        if step.kind == "dense":  # the reference kernel multiplies by a double
            return _round(sums * factors)
        for channel, factor in enumerate(factors.tolist()):
            pair = fixed_point.quantize_multiplier(factor)
            column = sums[..., channel].astype(np.int64)
            sums[..., channel] = fixed_point.scale_twice(column, *pair)
        return sums


def _round(values: Any) -> Any:
    """Round to the nearest integers, halves away from zero."""
    return np.copysign(np.floor(np.abs(values) + 0.5), values)
