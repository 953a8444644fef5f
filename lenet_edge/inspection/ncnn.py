"""The layers of a .param file."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

from lenet_edge.artifacts import ncnn_file
from lenet_edge.artifacts.ncnn_file import NcnnLayer
from lenet_edge.inspection.graph import GraphTensor, ModelGraph
from lenet_edge.inspection.layer import Layer

_CONVOLUTIONS = ("Convolution", "ConvolutionDepthWise")
# Layers with weights that are not counted here. Source: ncnn's wiki, "operators".
_UNCOUNTED = {"Deconvolution", "DeconvolutionDepthWise", "Convolution1D", "Convolution3D", "LSTM",
              "GRU", "RNN", "MultiHeadAttention", "Gemm", "MatMul", "Embed", "Einsum"}  # fmt: skip
_ENDS = ("Input", "Split")  # they only name and copy blobs


def read(path: str) -> tuple[Layer, ...]:
    """Return the layers in the order in which they run."""
    return read_graph(Path(path)).layers


def read_graph(path: Path) -> ModelGraph:
    """Return the layers of a .param file, its inputs and its outputs."""
    layers = ncnn_file.read_layers(path)
    described = tuple(_describe(layer) for layer in layers if layer.kind not in _ENDS)
    read_blobs = {name for layer in layers for name in layer.inputs}
    shapes = ncnn_file.blob_shapes(layers)
    inputs = [name for layer in layers if layer.kind == "Input" for name in layer.outputs]
    outputs = [name for layer in layers for name in layer.outputs if name not in read_blobs]

    def describe(names: list[str]) -> tuple[GraphTensor, ...]:
        return tuple(GraphTensor(name, "float32", _with_batch(shapes.get(name))) for name in names)

    return ModelGraph(
        describe(inputs),
        describe(outputs),
        described,
        operators=dict(Counter(layer.kind for layer in described)),
        not_counted=tuple(dict.fromkeys(x.kind for x in described if x.macs is None)),
    )


def _with_batch(shape: tuple[int, ...] | None) -> tuple[int | None, ...] | None:
    return None if shape is None else (None, *ncnn_file.channels_last(shape))


def _describe(layer: NcnnLayer) -> Layer:
    shapes = layer.shapes()
    shape = shapes[0] if shapes else None
    parameters: int | None = 0
    macs: int | None = 0
    if layer.kind in _CONVOLUTIONS:
        weights, filters = layer.number(6), max(layer.number(0), 1)
        parameters = weights + (filters if layer.number(5) else 0)
        macs = math.prod(shape[1:]) * weights if shape else None
    elif layer.kind == "InnerProduct":
        weights, filters = layer.number(2), layer.number(0)
        parameters = weights + (filters if layer.number(1) else 0)
        macs = math.prod(shape[:-1]) * weights if shape else None
    elif layer.kind == "BatchNorm":
        parameters = 4 * layer.number(0)
    elif layer.kind == "PReLU":
        parameters = layer.number(0)
    elif layer.kind == "MemoryData":
        parameters = math.prod(shape) if shape else None
    elif layer.kind in _UNCOUNTED:
        parameters = macs = None
    return Layer(
        name=layer.name,
        kind=layer.kind,
        output_shape=_with_batch(shape),
        parameters=parameters,
        macs=macs,
        dense=layer.kind == "InnerProduct",
    )
