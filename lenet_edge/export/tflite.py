"""Export to TFLite, with TensorFlow's own converter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lenet_edge.export.checkpoint import inference_function
from lenet_edge.target import Images

import tensorflow as tf  # isort: skip

CONVERTER = f"tensorflow {tf.__version__} TFLiteConverter"
PRECISIONS = ("float32", "int8")


def convert(model: Any, precision: str, calibration: Images) -> bytes:
    """Return the .tflite file of a Keras classifier.

    Args:
        model: the Keras model.
        precision: "float32", or "int8" (weights, activations, input and output).
        calibration: images that set the ranges of the int8 activations: float32 of shape
            (N, height, width, channels), scaled as in training.
    """
    function = inference_function(model).get_concrete_function()
    # Without the second argument: giving the model leaves variable handles in the file.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    if precision == "int8":

        def samples() -> Iterator[list[Any]]:
            for image in calibration:
                yield [image[None]]

        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = samples
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
    content = converter.convert()
    assert isinstance(content, bytes)
    return content
