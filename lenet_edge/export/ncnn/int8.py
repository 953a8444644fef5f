"""Int8 weights with a scale per channel, and an input scale per layer; all are symmetric."""

from __future__ import annotations

from typing import Any

import numpy as np

from lenet_edge.export.converter import ConversionRequest
from lenet_edge.export.ncnn.network import Network, Weights
from lenet_edge.export.onnx_model import OnnxModel, open_graph

import onnx  # isort: skip

_LARGEST = 127
_INT8_TERM = 8  # the key of the parameter that announces the scales


def largest_values(model: Any, request: ConversionRequest) -> dict[str, float]:
    """Return the largest absolute value of each float value of a graph on the calibration images.

    Args:
        model: the `onnx.ModelProto`, with a batch of 1.
        request: the request with the images.
    """
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    names = [name for node in model.graph.node for name in node.output if name]
    ends = {value.name for value in model.graph.output}
    observed.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in names if name not in ends
    )
    session = open_graph(observed)
    inputs = [value.name for value in model.graph.input]
    outputs = [entry.name for entry in session.get_outputs()]
    largest: dict[str, float] = {}
    is_onnx = isinstance(request.model, OnnxModel)
    arrange = [entry.arrange if is_onnx else None for entry in request.model.inputs]
    for images in request.samples():
        feed = {
            name: move(values) if move else values
            for name, move, values in zip(inputs, arrange, images, strict=True)
        }
        results = zip(outputs, session.run(outputs, feed), strict=True)
        for name, values in (*feed.items(), *results):
            if values.dtype.kind == "f" and values.size:
                largest[name] = max(largest.get(name, 0.0), float(np.abs(values).max()))
    return largest


def quantize(network: Network, largest: dict[str, float]) -> None:
    """Quantize the layers with weights.

    Args:
        network: the network; it is changed.
        largest: the largest absolute value of each value of the graph.
    """
    for layer in network.layers:
        if layer.matrix is None:
            continue
        groups = layer.number(7, 1) if layer.kind == "ConvolutionDepthWise" else len(layer.matrix)
        scales = _scales(np.abs(layer.matrix.reshape(groups, -1)).max(axis=1))
        steps = layer.matrix.reshape(groups, -1) * scales[:, None]
        layer.matrix = np.rint(steps).astype(np.int8).reshape(layer.matrix.shape)
        highest = np.array([largest[network.values[layer.inputs[0]]]], np.float32)
        layer.vectors += [scales, _scales(highest)]
        layer.params[_INT8_TERM] = 1


def _scales(highest: Weights) -> Weights:
    """Return the factor from each largest value to 127; 1 for zeros."""
    return np.where(highest > 0, _LARGEST / np.maximum(highest, 1e-30), 1).astype(np.float32)
