"""Export with trained ranges: the network of a quantization-aware training, for the converters."""

from __future__ import annotations

from typing import Any

from lenet_edge.errors import ModelFileError
from lenet_edge.export.converter import ConversionRequest
from lenet_edge.export.embed import read_tflite
from lenet_edge.fake_quantization import FakeQuantizedNetwork

import tensorflow as tf  # isort: skip

_FLOAT32 = 0  # source: TensorType in tensorflow/lite/schema/schema.fbs


def rounded_function(request: ConversionRequest) -> Any:
    """Return the inference with trained ranges as a `tf.function` from ``image`` to ``logits``.

    Args:
        request: the model and its ranges.

    Raises:
        ModelFileError: the ranges are those of another model.
    """
    assert request.ranges
    network, ranges = FakeQuantizedNetwork(request.model, request.ranges.precision), request.ranges

    def infer(image: Any) -> dict[str, Any]:
        return {"logits": tf.identity(network.infer(image, ranges), "logits")}

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
