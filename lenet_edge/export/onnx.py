"""Export to ONNX: tf2onnx for the graph, ONNX Runtime's tools for float16 and int8."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.export.checkpoint import inference_function
from lenet_edge.export.onnx_crop import crop
from lenet_edge.export.onnx_graph import clean
from lenet_edge.machine.environment import read_environment
from lenet_edge.target import Images

import onnx  # isort: skip
import tf2onnx  # isort: skip
from tensorflow.python.framework.convert_to_constants import (  # isort: skip
    convert_variables_to_constants_v2,
)

CONVERTER = f"tf2onnx {tf2onnx.__version__}"
PRECISIONS = ("float32", "float16", "int8")
OPSET = 17


def convert(
    model: Any,
    precision: str,
    calibration: Images,
    batch_size: int | None = None,
    reduce_range: bool = True,
) -> bytes:
    """Return the .onnx file of a Keras classifier.

    Args:
        model: the Keras model.
        precision: "float32", "float16" or "int8" (QDQ nodes, per channel); input and output stay
            float32 in each.
        calibration: images that set the ranges of the int8 activations: float32 of shape
            (N, height, width, channels), scaled as in training.
        batch_size: None leaves the batch free.
        reduce_range: give int8 weights 7 bits; see `needs_reduced_range`.
    """
    function = inference_function(model, batch_size).get_concrete_function()
    # tf2onnx's own way from a function makes an input of each constant that a layer keeps.
    frozen = convert_variables_to_constants_v2(function)
    graph, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(),
        input_names=[frozen.inputs[0].name],
        output_names=[frozen.outputs[0].name],
        opset=OPSET,
    )
    if batch_size is None:
        # tf2onnx numbers the free batch axis anew in each run; a name says what it is.
        for value in (*graph.graph.input, *graph.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    graph = clean(graph)
    if precision == "float16":
        from onnxruntime.transformers.float16 import convert_float_to_float16

        graph = clean(convert_float_to_float16(graph, keep_io_types=True))
    elif precision == "int8":
        graph = clean(_quantize(crop(graph), calibration, reduce_range))
    onnx.checker.check_model(graph, full_check=True)
    content = graph.SerializeToString(deterministic=True)
    assert isinstance(content, bytes)
    return content


def needs_reduced_range(cpu: str) -> bool:
    """Tell whether int8 weights must keep to 7 bits on a CPU: "x86", "arm", or "auto" (this one).

    Without VNNI, x86 adds pairs of int8 products in 16 bits, and full-range weights overflow
    there. Arm and x86 with VNNI add in 32 bits. "x86" stands for any x86, so it reduces.

    Source: ONNX Runtime's documentation, "Quantize ONNX models", on U8S8 and reduce_range.
    """
    if cpu != "auto":
        return cpu == "x86"
    here = read_environment()
    is_x86 = here.architecture.lower() in ("x86_64", "amd64", "i386", "i686")
    return is_x86 and not any("vnni" in feature for feature in here.cpu_features)


def _quantize(graph: Any, calibration: Images, reduce_range: bool) -> Any:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    image = graph.graph.input[0]
    size = image.type.tensor_type.shape.dim[0].dim_value or 1  # 0 where the batch is free
    whole = np.resize(calibration, (-(-len(calibration) // size) * size, *calibration.shape[1:]))
    batches = whole.reshape(-1, size, *calibration.shape[1:])

    class Samples(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = iter(batches)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._batches, None)
            return None if batch is None else {image.name: batch}

    with tempfile.TemporaryDirectory() as folder:  # the quantizer works from file to file
        source, prepared, target = (Path(folder, f"{step}.onnx") for step in "abc")
        onnx.save(graph, source)
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            Samples(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=reduce_range,
        )
        return _keep_logits_float(onnx.load(target))


def _keep_logits_float(model: Any) -> Any:
    """Take the last QuantizeLinear and DequantizeLinear away: the output is float32 anyway.

    Rounding the logits to 256 steps makes ties of what was close, and costs two nodes.
    """
    nodes, output = model.graph.node, model.graph.output[0].name
    makers = {name: node for node in nodes for name in node.output}
    last = makers[output]
    if last.op_type != "DequantizeLinear":
        return model
    quantize = makers[last.input[0]]
    maker = makers.get(quantize.input[0])
    if maker is None or [name for n in nodes for name in n.input].count(quantize.input[0]) != 1:
        return model
    maker.output[list(maker.output).index(quantize.input[0])] = output
    nodes.remove(last)
    nodes.remove(quantize)
    return model
