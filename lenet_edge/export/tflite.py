"""Export to TFLite, with TensorFlow's own converter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lenet_edge.export.checkpoint import inference_function
from lenet_edge.export.embed import read_tflite, write_tflite
from lenet_edge.target import Images

import tensorflow as tf  # isort: skip

CONVERTER = f"tensorflow {tf.__version__} TFLiteConverter"
PRECISIONS = ("float32", "float16", "dynamic", "int8", "int16x8")


def convert(
    model: Any, precision: str, calibration: Images, batch_size: int | None = None
) -> bytes:
    """Return the .tflite file of a Keras classifier.

    Args:
        model: the Keras model.
        precision: "float32"; "float16" (weights only); "dynamic" (int8 weights of the dense
            layers, whose inputs are quantized as they come); "int8" (weights, activations, input
            and output); "int16x8" (int8 weights, int16 activations, input and output).
        calibration: images that set the ranges of int8 and int16x8 activations: float32 of shape
            (N, height, width, channels), scaled as in training.
        batch_size: None leaves the batch free.
    """
    function = inference_function(model, batch_size).get_concrete_function()
    # Without the second argument: giving the model leaves variable handles in the file.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision in ("int8", "int16x8"):
        sets = tf.lite.OpsSet
        operators, dtype = {
            "int8": (sets.TFLITE_BUILTINS_INT8, tf.int8),
            "int16x8": (
                sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
                tf.int16,
            ),
        }[precision]

        def samples() -> Iterator[list[Any]]:
            for image in calibration:
                yield [image[None]]

        converter.representative_dataset = samples
        converter.target_spec.supported_ops = [operators]
        converter.inference_input_type = converter.inference_output_type = dtype
    return name_ends(converter.convert())


def name_ends(content: bytes) -> bytes:
    """Return a .tflite file with its input named ``image`` and its output ``logits``."""
    graph = read_tflite(content)
    for subgraph in graph.subgraphs:
        for name, tensors in (("image", subgraph.inputs), ("logits", subgraph.outputs)):
            subgraph.tensors[tensors[0]].name = name
    return write_tflite(graph)
