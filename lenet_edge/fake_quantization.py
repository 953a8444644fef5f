"""Fake quantization: the arithmetic of an int8 file, computed in float32.

A network of this module rounds weights, biases and activations to the values of the int8 file:

- Weights of 8 bits have a symmetric scale for each output channel. Weights of 4 bits have one for
  the layer, because several TFLite runtimes refuse more.
- Activations have a scale and a zero point for each tensor.
- Batch normalization is folded into the layer before it, with its moving statistics.
- A ReLU is part of the layer before it. A max-pool may be between the two, because they commute.
- Pools and reshapes keep the scale of their input.

Training computes gradients through the network, and export converts the same network. The file
therefore predicts what the training predicted. Source: B. Jacob et al., "Quantization and training
of neural networks for efficient integer-arithmetic-only inference", 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import lenet_edge.model  # noqa: F401  imported first: it silences TensorFlow
from lenet_edge.artifacts.trained_ranges import INPUT, TrainedRanges, WeightScales
from lenet_edge.errors import ModelFileError
from lenet_edge.quantized_steps import QuantizedStep, read_steps, source_of

import numpy as np  # isort: skip
import tensorflow as tf  # isort: skip

_MIN_WIDTH = 1e-6  # of a range: that of a layer whose outputs are all 0
_MIN_WEIGHT = 1e-9  # the largest weight of a channel whose weights are all 0
# Largest integer of a bias. The converter enlarges the scale of a channel to keep this limit.
_MAX_BIAS = 2**30 - 1
_WRONG_RANGES = "the trained ranges do not fit layer {}; train the checkpoint again"
# Computes max_pool_2x2(conv_3x3(values)) from the values and the kernel, faster than its parts.
ConvolveAndPool = Callable[[Any, Any], Any]


class FakeQuantizedNetwork:
    """A Keras classifier with the roundings of its int8 file.

    Attributes:
        steps: the operators, in the order in which they run.
        ranges: a variable of two numbers for each range, by the name of its step.
    """

    def __init__(self, model: Any, precision: str = "int8") -> None:
        """Read the layers of a model.

        Raises:
            ModelFileError: a layer is not covered; the message names it. Or the precision is int4,
                and the model has no dense layers.
        """
        self.precision = precision
        self.steps = read_steps(model)
        names = [step.name for step in self.steps if step.has_range]
        self.ranges = {
            name: tf.Variable((0.0, 1.0), trainable=False, name=f"range_{name}") for name in names
        }
        self._scales = {
            step: tf.Variable(1.0, trainable=False) for step in self.steps if self.bits(step) == 4
        }
        if precision == "int4" and not self._scales:
            raise ModelFileError(
                f"model {model.name} has no dense layers, whose weights int4 is for; quantize it"
                " to int8"
            )
        self._compiled = tf.function(self.forward, reduce_retracing=True)
        self._observe = tf.function(self._observed_ranges)

    @classmethod
    def load(cls, model: Any, ranges: TrainedRanges) -> FakeQuantizedNetwork:
        """Return the network of a checkpoint with its trained ranges.

        Raises:
            ModelFileError: the ranges are those of another model.
        """
        network = cls(model, ranges.precision)
        for name, variable in network.ranges.items():
            variable.assign(_entry(ranges.activations, name))
        for step, variable in network._scales.items():
            variable.assign(_entry(ranges.weights, step.name).scales[0])
        return network

    def forward(
        self,
        images: Any,
        observed: dict[str, Any] | None = None,
        convolve_and_pool: ConvolveAndPool | None = None,
    ) -> Any:
        """Return the logits, without a softmax at the end.

        Args:
            images: float32 of shape (batch, height, width, channels).
            observed: receives the range of each step in this batch, which then replaces its range.
            convolve_and_pool: the faster function for pairs that `pairs_with_pool` finds.
        """
        values: dict[QuantizedStep, Any] = {}
        limits = {name: tf.unstack(variable) for name, variable in self.ranges.items()}
        pairs = self.pairs_with_pool() if convolve_and_pool else {}
        for step in self.steps:
            inputs = [values[each] for each in step.inputs] or [images]
            if step.kind == "softmax" or step in pairs.values():
                values[step] = inputs[0]
                continue
            if step.kernel is None:
                output = step.other(inputs)
                if step.kind == "average_pool":
                    output = _round_average(output, *limits[source_of(step).name])
            else:
                low, high = limits[source_of(step.inputs[0]).name]
                kernel, bias, scales = self._round_weights(step, (high - low) / 255)
                bias = _round_to(bias, scales * (high - low) / 255)
                if step in pairs and convolve_and_pool:
                    output = convolve_and_pool(inputs[0], kernel) + bias
                else:
                    output = step.linear(inputs[0], kernel) + bias
            output = step.activate(output)
            if step.has_range:
                if observed is not None:
                    observed[step.name] = tf.stack((tf.reduce_min(output), tf.reduce_max(output)))
                    limits[step.name] = tf.unstack(_nudged(observed[step.name]))
                output = tf.quantization.fake_quant_with_min_max_vars(output, *limits[step.name])
            values[step] = output
        return values[self.steps[-1]]

    def infer(self, images: Any, ranges: TrainedRanges) -> Any:
        """Return the outputs, computed from constants that the TFLite converter understands.

        The rounded weights are plain constants: the converter finds the same scales for them.

        Args:
            images: float32 of shape (batch, height, width, channels).
            ranges: the trained ranges.

        Raises:
            ModelFileError: the ranges are those of another model.
        """
        values: dict[QuantizedStep, Any] = {}
        for step in self.steps:
            inputs = [values[each] for each in step.inputs] or [images]
            with tf.name_scope(step.name):
                if step.kernel is None:
                    output = step.other(inputs)
                else:
                    integers, scales, bias = self.weights(step, ranges)
                    kernel = integers.astype(np.float32) * scales
                    output = tf.nn.bias_add(step.linear(inputs[0], kernel), bias)
                output = step.activate(output)
                if step.kind == "softmax":
                    output = tf.nn.softmax(output)
                if step.has_range:
                    low, high = _entry(ranges.activations, step.name)
                    output = tf.quantization.fake_quant_with_min_max_vars(output, low, high)
            values[step] = output
        return values[self.steps[-1]]

    def channel_maxima(self, batches: Iterable[Any]) -> dict[QuantizedStep, Any]:
        """Return the largest absolute output of each channel of each step.

        Args:
            batches: images as `forward` takes them; nothing is rounded.
        """
        # A compiled function frees the output of a layer when the last layer that reads it is done.
        measure = tf.function(self._channel_maxima, reduce_retracing=True)
        measured = [measure(batch) for batch in batches]
        return {
            step: np.max([maxima[step.name].numpy() for maxima in measured], axis=0)
            for step in self.steps
        }

    def _channel_maxima(self, images: Any) -> dict[str, Any]:
        """Return the largest absolute outputs for some images, by the name of the step."""
        values: dict[QuantizedStep, Any] = {}
        maxima = {}
        for step in self.steps:
            inputs = [values[each] for each in step.inputs] or [images]
            if step.kernel is None:
                output = step.other(inputs)
            else:
                kernel, bias = step.folded()
                output = step.linear(inputs[0], kernel) + bias
            values[step] = output = step.activate(output)
            maxima[step.name] = tf.reduce_max(tf.abs(output), axis=range(len(output.shape) - 1))
        return maxima

    def weights(self, step: QuantizedStep, ranges: TrainedRanges) -> tuple[Any, Any, Any]:
        """Return the integers of the kernel of a step, their scales, and the float bias.

        Raises:
            ModelFileError: the ranges are those of another model.
        """
        with tf.init_scope():
            kernel, bias = (value.numpy() for value in step.folded())
        entry = _entry(ranges.weights, step.name)
        if len(entry.scales) != kernel.shape[-1]:
            raise ModelFileError(_WRONG_RANGES.format(step.name))
        scales = np.array(entry.scales, np.float32)
        integers = np.clip(np.round(kernel / scales), -entry.largest, entry.largest)
        return integers, scales, bias

    def __call__(self, images: Any, training: bool = False) -> Any:
        """Return the logits, as the Keras model does; `training` has no effect."""
        return self._compiled(images)

    def pairs_with_pool(self) -> dict[QuantizedStep, QuantizedStep]:
        """Return each 3 x 3 convolution that only a 2 x 2 max-pool reads, with the pool."""
        pairs = {}
        for step in self.steps:
            readers = [other for other in self.steps if step in other.inputs]
            if step.kind != "conv" or [reader.kind for reader in readers] != ["max_pool"]:
                continue
            layer, pool = step.layer, readers[0].layer
            plain = (step.kernel.shape[:2], layer.strides, layer.dilation_rate, layer.padding)
            pooled = (pool.pool_size, pool.strides, pool.padding)
            if plain == ((3, 3), (1, 1), (1, 1), "valid") and pooled == ((2, 2), (2, 2), "valid"):
                pairs[step] = readers[0]
        return pairs

    def _round_weights(self, step: QuantizedStep, input_scale: Any) -> tuple[Any, Any, Any]:
        """Return the rounded kernel of a step, its float bias, and the scale of each channel."""
        quantization = tf.quantization
        kernel, bias = step.folded()
        if step in self._scales:
            scale = tf.convert_to_tensor(self._scales[step])
            rounded = quantization.fake_quant_with_min_max_vars(
                kernel, -7 * scale, 7 * scale, 4, narrow_range=True
            )
            return rounded, bias, tf.fill(kernel.shape[-1:], scale)
        flat = tf.reshape(kernel, (-1, kernel.shape[-1]))
        largest = tf.maximum(tf.reduce_max(tf.abs(flat), axis=0), _MIN_WEIGHT)
        largest = tf.maximum(largest, 127 * tf.abs(bias) / (_MAX_BIAS * input_scale))
        largest = tf.stop_gradient(largest)
        rounded = quantization.fake_quant_with_min_max_vars_per_channel(
            flat, -largest, largest, narrow_range=True
        )
        return tf.reshape(rounded, kernel.shape), bias, largest / 127

    def _rounded_weights(self) -> Iterator[tuple[QuantizedStep, Any, Any]]:
        """Yield each step with weights, its rounded kernel, and the scale of each channel."""
        for step in self.steps:
            if step.kernel is not None:
                low, high = self.ranges[source_of(step.inputs[0]).name].numpy()
                kernel, _, scales = self._round_weights(step, (high - low) / 255)
                yield step, kernel, scales

    def bits(self, step: QuantizedStep) -> int:
        """Return the bits of the weights of a step: 4 in the dense layers of an int4 training."""
        return 4 if self.precision == "int4" and step.kind == "dense" else 8

    def calibrate(self, batches: Iterable[Any]) -> None:
        """Set the ranges by images: the mean of the extremes of the batches.

        The input and the logits get the extremes of all batches: no logit is cut off, because two
        equal logits would hide which of them was larger.
        """
        for step, variable in self._scales.items():
            variable.assign(_best_scale(step.folded()[0].numpy()))
        observed = [self._observe(batch) for batch in batches]
        ends = (INPUT, source_of(self.steps[-1]).name)
        for name, variable in self.ranges.items():
            extremes = np.stack([ranges[name].numpy() for ranges in observed])
            limits = extremes.mean(axis=0)
            if name in ends:
                limits = np.array((extremes[:, 0].min(), extremes[:, 1].max()), np.float32)
            variable.assign(_nudged(limits))

    def _observed_ranges(self, images: Any) -> dict[str, Any]:
        """Return the smallest and the largest output of each step for some images."""
        observed: dict[str, Any] = {}
        self.forward(images, observed)
        return observed

    def round_model(self) -> None:
        """Give the Keras model the rounded weights, so that its float files have them too."""
        for step, rounded, _ in self._rounded_weights():
            weights = tf.math.divide_no_nan(rounded, step.factor())
            step.kernel.assign(tf.reshape(weights, step.kernel.shape))

    def trained_ranges(self) -> TrainedRanges:
        """Return the ranges, and the scales of the weights."""
        weights = {
            step.name: WeightScales(self.bits(step), tuple(scales.numpy().tolist()))
            for step, _, scales in self._rounded_weights()
        }
        limits = {name: tuple(value.numpy().tolist()) for name, value in self.ranges.items()}
        return TrainedRanges(self.precision, limits, weights)


def _best_scale(kernel: Any) -> float:
    """Return the scale for weights of 4 bits with the least squared error."""
    largest = max(float(np.abs(kernel).max()), _MIN_WEIGHT) / 7
    scales = largest * np.linspace(1, 0.2, 41)
    errors = [np.square(np.clip(np.round(kernel / s), -7, 7) * s - kernel).sum() for s in scales]
    return float(scales[np.argmin(errors)])


def _round_average(values: Any, low: Any, high: Any) -> Any:
    """Round averages as AVERAGE_POOL_2D does: halves away from 0, on the scale of the integers."""
    scale = (high - low) / 255
    zero = -128 - tf.round(low / scale)
    integers = values / scale + zero
    # The small number makes up for the error of float32 in halves, which are frequent.
    rounded = tf.sign(integers) * tf.floor(tf.abs(integers) + 0.5 + 1e-4)
    return values + tf.stop_gradient((rounded - zero) * scale - values)


def _round_to(values: Any, scales: Any) -> Any:
    """Round values to multiples of their scales; the gradient ignores the rounding."""
    return values + tf.stop_gradient(tf.round(values / scales) * scales - values)


def _nudged(limits: Any) -> Any:
    """Return the nearest range, with 0 in it, of which 0 is one of the 256 values."""
    low = tf.minimum(limits[0], 0.0)
    high = tf.maximum(limits[1], low + _MIN_WIDTH)
    high = tf.maximum(high, 0.0)
    scale = (high - low) / 255
    zero = tf.round(-low / scale)
    return tf.stack((-zero * scale, (255 - zero) * scale))


def _entry(entries: Any, name: str) -> Any:
    if name not in entries:
        raise ModelFileError(_WRONG_RANGES.format(name))
    return entries[name]
