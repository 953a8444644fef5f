"""Export to ncnn: a .param file with the layers, and a .bin file with the weights.

The layers come from the ONNX graph of the float model. ncnn computes one image at a time, so the
batch of a file is free.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from lenet_edge import __version__
from lenet_edge.artifacts.artifact import TensorSpec
from lenet_edge.artifacts.ncnn_file import channels_last, write_layers
from lenet_edge.export.converter import ConversionRequest, Converted
from lenet_edge.export.ncnn import int8, operators, passes
from lenet_edge.export.ncnn.network import Network
from lenet_edge.export.ncnn.translation import Translation, add_image
from lenet_edge.export.onnx_graph import Graph, clean
from lenet_edge.export.onnx_model import OnnxModel
from lenet_edge.export.onnx_simplify import simplify

CONVERTER = f"lenet-edge {__version__} ncnn"
PRECISIONS = ("float32", "float16", "int8")


def convert(request: ConversionRequest) -> Converted:
    """Convert a float model to the two files of ncnn.

    Raises:
        ModelFileError: an operator is not covered; the message names it.
    """
    graph, firsts = _graph(request)
    network = _translate(graph, firsts, request.name)
    if request.precision == "int8":
        int8.quantize(network, int8.largest_values(graph, request))
    network.finish()
    entries = [layer.outputs[0] for layer in network.layers if layer.kind == "Input"]
    inputs, outputs = (
        tuple(
            TensorSpec(name, (request.batch_size, *channels_last(network.shapes[name])), "float32")
            for name in blobs
        )
        for blobs in (entries, network.outputs)
    )
    precision = "float16" if request.precision == "float16" else "float32"
    return Converted(
        write_layers(list(network.layers)).encode(),
        tensors=(inputs, outputs),
        converter=_converter(request),
        parts={".bin": network.weights(precision)},
    )


def _graph(request: ConversionRequest) -> tuple[Any, list[bool]]:
    """Return the graph with a batch of 1, and which of its inputs have their channels first."""
    model = request.model
    if isinstance(model, OnnxModel):
        return clean(model.with_batch(1)), [entry.is_channels_first for entry in model.inputs]
    from lenet_edge.export import onnx

    graph = onnx.from_keras(dataclasses.replace(request, batch_size=1))
    return clean(simplify(graph)), [False] * len(graph.graph.input)


def _translate(model: Any, firsts: list[bool], name: str) -> Network:
    """Return the network of a graph."""
    translation = Translation(Graph(model), name)
    network = translation.network
    for value, is_first in zip(model.graph.input, firsts, strict=True):
        add_image(translation, value.name, is_first)
    operators.translate(translation)
    network.outputs = [translation.blob(value.name) for value in model.graph.output]
    passes.simplify(network)
    passes.fill_vectors(network)
    return network


def _converter(request: ConversionRequest) -> str:
    is_onnx = isinstance(request.model, OnnxModel)
    return f"{OnnxModel.CONVERTER}, {CONVERTER}" if is_onnx else ""
