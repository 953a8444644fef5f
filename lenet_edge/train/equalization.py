"""Equalization of the channels of a network, before it is trained with rounding.

Int8 activations have one scale for a whole tensor. If its channels have very different ranges, the
small channels get few of the 256 values. A ReLU keeps positive factors, so each channel can be
divided by a factor that the weights of the next layer are multiplied by: the float network computes
the same, and its channels become similar.

Source: M. Nagel et al., "Data-free quantization through weight equalization and bias correction",
2019. Here the ranges of the activations are measured, because weights have a scale per channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from lenet_edge.fake_quantization import FakeQuantizedNetwork
from lenet_edge.quantized_steps import QuantizedStep

import numpy as np  # isort: skip
import numpy.typing as npt  # isort: skip

# Between two layers, these keep a positive factor of each channel.
_TRANSPARENT = ("max_pool", "average_pool", "mean", "pad", "reshape")
_TINY = 1e-9  # smaller outputs and weights belong to a channel without effect
Values = npt.NDArray[np.float32]


def equalize(network: FakeQuantizedNetwork, batches: Iterable[Any]) -> None:
    """Make the ranges of the channels between two layers similar, in the Keras model itself.

    Channels stay as they are if a ReLU6 or an addition reads them, or if their batch normalization
    has no gamma.

    Args:
        network: the network, whose float function does not change.
        batches: images, float32 of shape (batch, height, width, channels); the ranges are measured
            on them.
    """
    maxima = network.channel_maxima(batches)
    for step, reader in _pairs(network):
        largest = maxima[step]
        if reader.kernel.shape[-2] % len(largest):
            continue  # A Reshape between them mixes the channels.
        factors = _factors(largest, reader)
        _divide_output(step, factors)
        _multiply_input(reader, factors)


def _pairs(network: FakeQuantizedNetwork) -> Iterator[tuple[QuantizedStep, QuantizedStep]]:
    """Yield each layer whose output only one other layer reads, with that layer."""
    for step in network.steps:
        normalization = step.normalization
        fits = step.kernel is not None and step.activation != "relu6"
        if not fits or (normalization is not None and not normalization.scale):
            continue
        at = step
        while True:
            readers = [other for other in network.steps if at in other.inputs]
            if len(readers) != 1:
                break
            (at,) = readers
            if at.kernel is not None:
                yield step, at
            if at.kind not in _TRANSPARENT:
                break


def _factors(largest: Values, reader: QuantizedStep) -> Values:
    """Return the factor of each channel.

    Args:
        largest: the largest absolute output of each channel.
        reader: the layer whose weights are multiplied by the factors.
    """
    if reader.kind == "depthwise":
        # Its weights have a scale for each of these channels, so only the outputs decide.
        return np.where(largest > _TINY, largest, 1)
    kernel = np.abs(reader.folded()[0].numpy())
    weights = kernel.reshape(-1, len(largest), kernel.shape[-1]).max(axis=(0, 2))
    factors = np.sqrt(largest / np.maximum(weights, _TINY))
    return np.where((largest > _TINY) & (weights > _TINY), factors, 1)


def _divide_output(step: QuantizedStep, factors: Values) -> None:
    layer = step.normalization
    if layer is None:
        shape = step.kernel.shape[-2:] if step.kind == "depthwise" else factors.shape
        step.kernel.assign(step.kernel / factors.reshape(shape))
        if step.bias is not None:
            step.bias.assign(step.bias / factors)
        return
    layer.gamma.assign(layer.gamma / factors)
    if layer.center:
        layer.beta.assign(layer.beta / factors)


def _multiply_input(reader: QuantizedStep, factors: Values) -> None:
    """Multiply the weights of each input channel; after a Flatten, channels come last."""
    repeated = np.tile(factors, reader.kernel.shape[-2] // len(factors))
    reader.kernel.assign(reader.kernel * repeated[:, np.newaxis])
