"""Passes over the layers of an ncnn network: fewer layers, and channels in whole vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from lenet_edge.export.ncnn.network import ORDERS, Network, WeightedLayer, size_params

_WEIGHTED = ("Convolution", "ConvolutionDepthWise", "InnerProduct")
# The number of a fused activation. Source: ncnn's fused_activation.h.
_RELU, _LEAKY_RELU, _CLIP, _SIGMOID, _HARD_SWISH = 1, 2, 3, 4, 6
_ACTIVATION, _ACTIVATION_PARAMS = 9, 10
# ncnn computes the channels of an image in vectors of 4, 8 or 16. With 6 channels it computes one
# at a time.
_VECTOR = 8
# Layers that compute each channel from the same channel, and keep zeros.
_PER_CHANNEL = ("Pooling", "ReLU", "HardSwish", "Noop")
# Layers that compute each value from the same value.
_PER_VALUE = ("ReLU", "HardSwish", "Sigmoid", "UnaryOp", "Clip", "ELU", "Swish", "Noop")


def simplify(network: Network) -> None:
    """Remove layers that only change the order of the axes, and fuse activations."""
    while _merge_orders(network):
        pass
    _drop_noops(network)
    for layer in list(network.layers):
        if layer in network.layers and layer.kind in _WEIGHTED:
            _fuse_activation(network, layer)


def _merge_orders(network: Network) -> bool:
    """Remove one layer that moves no value, or two of which the second undoes the first."""
    for layer in network.layers:
        if layer.kind not in ("Reshape", "Permute") or layer.outputs[0] in network.outputs:
            continue
        before, after = (network.shapes[name] for name in (layer.inputs[0], layer.outputs[0]))
        if before == after and (layer.kind == "Reshape" or layer.params[0] == 0):
            network.remove(layer)
            return True
        if layer.kind == "Permute" and _without_ones(before) == _moved(layer, before):
            layer.kind, layer.params = "Reshape", size_params(after)
            return True
    for second in network.layers:
        if _moves_values_first(network, second):
            return True
        first = next((e for e in network.layers if e.outputs == second.inputs[:1]), None)
        if first is None or first.outputs[0] in network.outputs:
            continue
        kinds, source = (first.kind, second.kind), first.inputs[:1]
        if kinds == ("Reshape", "Reshape"):
            second.inputs = list(source)
            _drop_unread(network, first)
            return True
        if kinds == ("Permute", "Permute") and _undoes(network, first, second):
            second.inputs, second.kind, second.params = list(source), "Noop", {}
            _drop_unread(network, first)
            return True
    return False


def _moves_values_first(network: Network, layer: WeightedLayer) -> bool:
    """Let a layer that computes each value alone run before the one that moves the values."""
    is_scalar = layer.kind == "BinaryOp" and layer.number(1) == 1
    if not is_scalar and layer.kind not in _PER_VALUE:
        return False
    mover = next((each for each in network.layers if each.outputs == layer.inputs), None)
    if mover is None or mover.kind not in ("Reshape", "Permute"):
        return False
    if network.only_reader(mover) is not layer:
        return False
    network.layers.remove(mover)
    network.layers.insert(network.layers.index(layer) + 1, mover)
    (source,), (between,), (end,) = mover.inputs, mover.outputs, layer.outputs
    layer.inputs, layer.outputs, mover.inputs, mover.outputs = [source], [between], [between], [end]
    network.shapes[between] = network.shapes[source]
    network.values[between] = network.values[end]
    return True


def _without_ones(shape: tuple[int, ...]) -> list[int]:
    return [axis for axis, size in enumerate(shape) if size > 1]


def _moved(layer: WeightedLayer, shape: tuple[int, ...]) -> list[int]:
    """Return the axes of the input that are larger than 1, in the order of the output."""
    return [axis for axis in ORDERS[len(shape)][layer.number(0)] if shape[axis] > 1]


def _undoes(network: Network, first: WeightedLayer, second: WeightedLayer) -> bool:
    rank = len(network.shapes[first.inputs[0]])
    before, after = (ORDERS[rank][layer.number(0)] for layer in (first, second))
    return [before[axis] for axis in after] == list(range(rank))


def _drop_unread(network: Network, layer: WeightedLayer) -> None:
    if not network.readers(layer.outputs[0]) and layer.outputs[0] not in network.outputs:
        network.layers.remove(layer)


def _drop_noops(network: Network) -> None:
    for layer in list(network.layers):
        if layer.kind == "Noop" and layer.outputs[0] not in network.outputs:
            network.remove(layer)


def _fuse_activation(network: Network, layer: WeightedLayer) -> None:
    """Let a layer with weights compute the activation after it."""
    activation = network.only_reader(layer)
    if activation is None:
        return
    params: dict[int, Any] = dict(activation.params)
    slope = params.get(0, 0.0)
    values: list[Any]
    if activation.kind == "ReLU" and slope == 0.0:
        number, values = _RELU, []
    elif activation.kind == "ReLU":
        number, values = _LEAKY_RELU, [slope]
    elif activation.kind == "Clip":
        number, values = _CLIP, [params[0], params[1]]
    elif activation.kind == "Sigmoid":
        number, values = _SIGMOID, []
    elif activation.kind == "HardSwish":
        number, values = _HARD_SWISH, [params[0], params[1]]
    else:
        return
    layer.params[_ACTIVATION] = number
    if values:
        layer.params[_ACTIVATION_PARAMS] = [float(value) for value in values]
    layer.outputs = activation.outputs
    network.layers.remove(activation)


def fill_vectors(network: Network) -> None:
    """Add filters of zeros to convolutions, up to whole vectors of channels.

    Only a chain from one convolution to the next is changed, so no other layer sees the channels.
    """
    for layer in network.layers:
        if layer.kind != "Convolution" or layer.matrix is None:
            continue
        chain = _chain_to_convolution(network, layer)
        missing = -layer.number(0) % _VECTOR
        if chain is None or not missing or missing > layer.number(0):
            continue
        *between, following = chain
        assert following.matrix is not None
        layer.matrix = np.pad(layer.matrix, ((0, missing), (0, 0), (0, 0), (0, 0)))
        layer.vectors = [np.pad(vector, (0, missing)) for vector in layer.vectors]
        following.matrix = np.pad(following.matrix, ((0, 0), (0, missing), (0, 0), (0, 0)))
        layer.params[0] = len(layer.matrix)
        for changed in (layer, following):
            assert changed.matrix is not None
            changed.params[6] = changed.matrix.size
        for each in (layer, *between):
            _, *sizes = network.shapes[each.outputs[0]]
            network.shapes[each.outputs[0]] = (layer.number(0), *sizes)


def _chain_to_convolution(network: Network, layer: WeightedLayer) -> list[WeightedLayer] | None:
    """Return the layers after a convolution up to the next one; None if others see its output."""
    chain: list[WeightedLayer] = []
    current: WeightedLayer | None = layer
    while current is not None:
        current = network.only_reader(current)
        if current is None or len(current.inputs) != 1:
            return None
        chain.append(current)
        if current.kind == "Convolution":
            return chain
        is_global = current.kind == "Pooling" and current.number(4)
        if current.kind not in _PER_CHANNEL or is_global:
            return None
    return None
