"""Export to TFLite with the converter of TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from lenet_edge.export import int4
from lenet_edge.export.checkpoint import inference_function
from lenet_edge.export.converter import (
    CALIBRATED_PRECISIONS,
    PRECISIONS,
    ConversionRequest,
    Converted,
)
from lenet_edge.export.embed import read_tflite, write_tflite
from lenet_edge.export.onnx_model import OnnxModel
from lenet_edge.export.trained import check_integers, rounded_function

import tensorflow as tf  # isort: skip

__all__ = ["CONVERTER", "PRECISIONS", "convert", "name_ends"]

CONVERTER = f"tensorflow {tf.__version__} TFLiteConverter"


def convert(request: ConversionRequest) -> Converted:
    """Convert a classifier to a .tflite file.

    The precisions mean:

    - "float32": the model unchanged;
    - "float16": float16 weights;
    - "dynamic": int8 weights of the dense layers with one scale for each layer; their inputs are
      quantized at run time;
    - "int8": int8 weights, activations, input and output;
    - "int4": the same, with int4 weights in dense layers;
    - "int16x8": int8 weights, int16 activations, input and output.
    """
    step = ("tflite", request.precision, request.batch_size, request.ranges is None)
    converted: Converted = request.once(step, lambda: _convert(request))
    return converted


def _convert(request: ConversionRequest) -> Converted:
    if request.precision == "int4":
        whole, source = (
            convert(dataclasses.replace(request, precision=precision))
            for precision in ("int8", "float32")
        )
        entries = request.ranges.weights.values() if request.ranges else ()
        trained = [entry.scales[0] for entry in entries if entry.bits == 4]
        content = int4.quantize_dense_layers(whole.content, source.content, trained)
        return dataclasses.replace(whole, content=content)
    if request.precision == "int8" and request.ranges:
        return Converted(name_ends(check_integers(_convert_rounded(request))))
    function = inference_function(request.model, request.batch_size).get_concrete_function()
    # No second argument: passing the model would leave variable handles in the file.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    if request.precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if request.precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if request.precision == "dynamic":
        # With a scale for each output, tflite-runtime, which ended in 2023, cannot open the file.
        # It is the only TFLite runtime with wheels for 32-bit boards.
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    if request.precision in CALIBRATED_PRECISIONS:
        sets = tf.lite.OpsSet
        operators, dtype = {
            "int8": (sets.TFLITE_BUILTINS_INT8, tf.int8),
            "int16x8": (
                sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
                tf.int16,
            ),
        }[request.precision]

        def samples() -> Iterator[list[Any]]:
            # The calibrator gives a batch that the converter fixes another size; a graph cannot.
            is_onnx = isinstance(request.model, OnnxModel)
            yield from request.samples((is_onnx and request.model.batch_size) or 1)

        converter.representative_dataset = samples
        converter.target_spec.supported_ops = [operators]
        converter.inference_input_type = converter.inference_output_type = dtype
    content = converter.convert()
    if isinstance(request.model, OnnxModel):
        content = name_ends(content, *request.model.end_names)
        return Converted(content, converter=f"{OnnxModel.CONVERTER}, {CONVERTER}")
    return Converted(name_ends(content))


def _convert_rounded(request: ConversionRequest) -> bytes:
    """Convert with the trained ranges: the converter takes them from the rounding operators."""
    function = rounded_function(request).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    content: bytes = converter.convert()
    return content


def name_ends(
    content: bytes, inputs: Sequence[str] = ("image",), outputs: Sequence[str] = ("logits",)
) -> bytes:
    """Return a .tflite file with names for its inputs and its outputs."""
    graph = read_tflite(content)
    main = graph.subgraphs[0]
    for names, tensors in ((inputs, main.inputs), (outputs, main.outputs)):
        for name, number in zip(names, tensors, strict=True):
            main.tensors[number].name = name
    return write_tflite(graph)
