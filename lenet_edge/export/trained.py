"""Export with trained ranges: the network of a quantization-aware training, for the converters."""

from __future__ import annotations

from typing import Any

import numpy as np

from lenet_edge.errors import ModelFileError
from lenet_edge.export.converter import ConversionRequest
from lenet_edge.export.embed import read_tflite
from lenet_edge.fake_quantization import FakeQuantizedNetwork

import tensorflow as tf  # isort: skip

_FLOAT32 = 0  # source: TensorType in tensorflow/lite/schema/schema.fbs


def rounded_function(request: ConversionRequest, for_onnx: bool = False) -> Any:
    """Return the inference with trained ranges as a `tf.function` from ``image`` to ``logits``.

    Args:
        request: the model and its ranges.
        for_onnx: see `FakeQuantizedNetwork.infer`.

    Raises:
        ModelFileError: the ranges are those of another model.
    """
    assert request.ranges
    network, ranges = FakeQuantizedNetwork(request.model, request.ranges.precision), request.ranges

    def infer(image: Any) -> dict[str, Any]:
        return {"logits": tf.identity(network.infer(image, ranges, for_onnx), "logits")}

    shape = (request.batch_size, *request.model.inputs[0].shape[1:])
    return tf.function(infer, input_signature=[tf.TensorSpec(shape, tf.float32, name="image")])


def check_integers(content: bytes) -> bytes:
    """Return a .tflite file after checking that it computes with integers only.

    Raises:
        ModelFileError: the converter left a tensor in float.
    """
    for tensor in read_tflite(content).subgraphs[0].tensors:
        if tensor.type == _FLOAT32:
            name = tensor.name.decode("utf-8", "replace")
            raise ModelFileError(f"the converter left {name} in float; please report this")
    return content


def quantize_onnx(graph: Any) -> Any:
    """Return an ONNX graph whose weights and biases are integers; its activations have QDQ nodes.

    The weights have been rounded in training, so their integers are exact.
    """
    import onnx
    from onnx import numpy_helper

    values = {entry.name: numpy_helper.to_array(entry) for entry in graph.graph.initializer}
    producers = {name: node for node in graph.graph.node for name in node.output}
    nodes: list[Any] = []

    def dequantized(name: str, integers: Any, scales: Any, axis: int) -> str:
        names = [f"{name}_{part}" for part in ("integers", "scales", "zeros", "values")]
        arrays = (integers, scales.astype(np.float32), np.zeros(scales.shape, integers.dtype))
        for array, part in zip(arrays, names, strict=False):
            graph.graph.initializer.append(numpy_helper.from_array(array, part))
        nodes.append(onnx.helper.make_node("DequantizeLinear", names[:3], names[3:], axis=axis))
        return names[3]

    for node in graph.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in values:
            kernel = values[node.input[1]]
            transposed = any(x.name == "transB" and x.i for x in node.attribute)
            axis = 0 if node.op_type == "Conv" or transposed else 1
            integers, scales = _integers(kernel, axis)
            source = producers[node.input[0]]
            while source.op_type != "DequantizeLinear":  # the converter's own changes of layout
                source = producers[source.input[0]]
            step = values[source.input[1]]  # the scale of the input
            node.input[1] = dequantized(node.input[1], integers, scales, axis)
            if len(node.input) > 2 and node.input[2] in values:
                bias = np.round(values[node.input[2]] / (scales * step)).astype(np.int32)
                node.input[2] = dequantized(f"{node.input[2]}_{axis}", bias, scales * step, 0)
        nodes.append(node)
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    return graph


def _integers(kernel: Any, axis: int) -> tuple[Any, Any]:
    """Return the integers of rounded weights, and the scale of each channel."""
    others = tuple(i for i in range(kernel.ndim) if i != axis)
    largest = np.maximum(np.abs(kernel).max(axis=others, keepdims=True), 1e-9)
    for steps in (7, 127):  # 4 bits or 8
        integers = kernel / largest * steps
        if np.abs(integers - np.round(integers)).max() < 0.01:
            break
    return np.round(integers).astype(np.int8), (largest / steps).reshape(-1)
