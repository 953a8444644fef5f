"""A float .tflite file as a chain of the layers that the vector kernels support.

Models that do not come from Keras, such as .onnx files, reach the kernels of `floats` this way.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from lenet_edge.errors import ModelFileError
from lenet_edge.export.native.network import Conv, Dense, NativeLayer, Pool, Shape, Weights
from lenet_edge.export.native.tflite_graph import Operator, OperatorGraph, Tensor

_SAME, _NO_ACTIVATION, _RELU = 0, 0, 1  # the numbers in TFLite's schema


def read(graph: OperatorGraph) -> tuple[list[NativeLayer], Shape, int]:
    """Return the layers of a graph, the shape of its images, and the number of its outputs.

    Raises:
        ModelFileError: the graph is no chain of convolutions, max-pools, ReLUs and dense layers, a
            dense layer at its end. The message names the first other operator.
    """
    layers: list[NativeLayer] = []
    value = graph.inputs[0]
    if len(value.shape) != 4:
        raise ModelFileError(f"the native format takes images, not {value.shape[1:]}")
    for operator in graph.operators:
        if operator.input() is not value or len(graph.consumers(value)) != 1:
            raise _uncovered(operator, "only one chain of operators is")
        if operator.kind == "CONV_2D":
            layers.append(_conv(operator))
        elif operator.kind == "MAX_POOL_2D":
            _join_relu(layers, operator)
            layers.append(_pool(operator))
        elif operator.kind == "FULLY_CONNECTED":
            layers.append(_dense(operator))
        elif operator.kind != "RESHAPE" or len(operator.output.shape) != 2:
            raise _uncovered(operator, "convolution, max-pool, ReLU, flatten and dense are")
        value = operator.output
    if not layers or not isinstance(layers[-1], Dense):
        raise ModelFileError("the native format needs a dense layer at the end; add one")
    return layers, _image(graph.inputs[0]), graph.outputs[0].shape[-1]


def _uncovered(operator: Operator, why: str) -> ModelFileError:
    return ModelFileError(
        f"{operator.described} is not covered by this native format ({why}); choose another"
        " precision or another --format"
    )


def _has_relu(operator: Operator) -> bool:
    if operator.activation not in (_NO_ACTIVATION, _RELU):
        raise _uncovered(operator, "its activation is not; ReLU is")
    return operator.activation == _RELU


def _constants(operator: Operator, outputs: int) -> tuple[Weights, Weights]:
    weights = operator.input(1)
    bias = operator.inputs[2] if len(operator.inputs) > 2 else None
    if weights.values is None or weights.dtype != "float32" or (bias and bias.values is None):
        raise _uncovered(operator, "its weights must be constant floats")
    values = bias.values if bias else None
    offsets = np.zeros(outputs, np.float32) if values is None else values.ravel()
    return weights.values, offsets


def _image(tensor: Tensor) -> Shape:
    _, height, width, channels = tensor.shape
    return height, width, channels


def _conv(operator: Operator) -> Conv:
    options, filters = operator.options, operator.output.shape[-1]
    weights, bias = _constants(operator, filters)
    kernel = weights.transpose(1, 2, 3, 0)
    is_grouped = kernel.shape[2] != operator.input().shape[-1]
    if is_grouped or (options.dilationHFactor, options.dilationWFactor) != (1, 1):
        raise _uncovered(operator, "dilation and groups must have their default values")
    return Conv(
        operator.output.name,
        _image(operator.input()),
        _image(operator.output),
        np.ascontiguousarray(kernel),
        bias,
        strides=(options.strideH, options.strideW),
        same=options.padding == _SAME,
        relu=_has_relu(operator),
    )


def _join_relu(layers: list[NativeLayer], pool: Operator) -> None:
    """Move the ReLU of a max-pool to the layer before it: both preserve the order of numbers."""
    if not _has_relu(pool):
        return
    for index in reversed(range(len(layers))):
        layer = layers[index]
        if not isinstance(layer, Pool):
            layers[index] = dataclasses.replace(layer, relu=True)
            return
    raise _uncovered(pool, "its activation must follow a convolution")


def _pool(operator: Operator) -> Pool:
    options = operator.options
    return Pool(
        operator.output.name,
        _image(operator.input()),
        _image(operator.output),
        (options.filterHeight, options.filterWidth),
        (options.strideH, options.strideW),
        options.padding == _SAME,
    )


def _dense(operator: Operator) -> Dense:
    weights, bias = _constants(operator, operator.output.shape[-1])
    return Dense(operator.output.name, np.ascontiguousarray(weights.T), bias, _has_relu(operator))
