"""Export to ONNX: tf2onnx converts the graph, ONNX Runtime's tools make float16 and int8.

With trained ranges, `onnx_trained` writes the int8 graph instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lenet_edge.export.checkpoint import inference_function
from lenet_edge.export.converter import ConversionRequest, Converted
from lenet_edge.export.onnx_crop import crop
from lenet_edge.export.onnx_graph import clean
from lenet_edge.export.onnx_model import OnnxModel
from lenet_edge.export.onnx_trained import TrainedGraph
from lenet_edge.fake_quantization import FakeQuantizedNetwork
from lenet_edge.machine.environment import read_environment
from lenet_edge.support.temporary import temporary_folder
from lenet_edge.target import Images

import onnx  # isort: skip
import tf2onnx  # isort: skip
from tensorflow.python.framework.convert_to_constants import (  # isort: skip
    convert_variables_to_constants_v2,
)

CONVERTER = f"tf2onnx {tf2onnx.__version__}"
PRECISIONS = ("float32", "float16", "int8")
OPSET = 17


def convert(request: ConversionRequest) -> Converted:
    """Convert a classifier to an .onnx file.

    Input and output are float32 in every precision. "int8" has QDQ nodes and weights quantized per
    channel. Where `needs_reduced_range`, calibrated weights have 7 bits; trained ones are uint8.
    """
    model = request.model
    if request.precision == "int8" and request.ranges:
        return _convert_trained(request)
    if isinstance(model, OnnxModel):
        graph, converter = model.with_batch(request.batch_size), model.CONVERTER
        images: Sequence[Images] = [
            entry.arrange(values)
            for entry, values in zip(model.inputs, request.arrays, strict=True)
        ]
    else:
        graph, converter, images = onnx.ModelProto(), "", request.arrays
        step = ("tf2onnx", request.batch_size)
        graph.CopyFrom(request.once(step, lambda: from_keras(request)))
    graph = clean(graph)
    settings: tuple[str, ...] = ()
    if request.precision == "float16":
        from onnxruntime.transformers.float16 import convert_float_to_float16

        graph = clean(convert_float_to_float16(graph, keep_io_types=True))
    elif request.precision == "int8":
        reduce_range = needs_reduced_range(request.cpu)
        settings = (f"reduce_range={reduce_range}",)
        graph = clean(_quantize(crop(graph), images, reduce_range))
    return Converted(_checked(graph), settings, converter=converter)


def _convert_trained(request: ConversionRequest) -> Converted:
    """Convert with the trained ranges; the weights keep their 8 bits on every CPU."""
    assert request.ranges
    network = FakeQuantizedNetwork.load(request.model, request.ranges)
    is_unsigned = needs_reduced_range(request.cpu)
    writer = TrainedGraph(network, request.ranges, is_unsigned)
    graph = writer.write(tuple(request.model.inputs[0].shape[1:]), request.batch_size, OPSET)
    settings = (f"weights={'uint8' if is_unsigned else 'int8'}",)
    return Converted(_checked(crop(graph)), settings, converter=f"onnx {onnx.__version__}")


def _checked(graph: Any) -> bytes:
    onnx.checker.check_model(graph, full_check=True)
    content: bytes = graph.SerializeToString(deterministic=True)
    return content


def from_keras(request: ConversionRequest) -> Any:
    """Return the graph that tf2onnx makes of a Keras model."""
    function = inference_function(request.model, request.batch_size).get_concrete_function()
    # `tf2onnx.convert.from_function` would make an input of each constant that a layer keeps.
    frozen = convert_variables_to_constants_v2(function)
    graph, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(),
        input_names=[frozen.inputs[0].name],
        output_names=[frozen.outputs[0].name],
        opset=OPSET,
    )
    if request.batch_size is None:
        # tf2onnx gives the free batch axis another number in each run; use a constant name.
        for value in (*graph.graph.input, *graph.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return graph


def needs_reduced_range(cpu: str) -> bool:
    """Tell whether int8 weights must use only 7 bits on a CPU.

    x86 without VNNI adds pairs of products of uint8 and int8 in 16 bits, which overflow with
    full-range weights. Arm and x86 with VNNI add in 32 bits. So does x86 if both are uint8, at
    a lower speed in large batches.

    Args:
        cpu: "x86" (any x86, so the range is reduced), "arm", or "auto" (this machine's CPU).

    Source: ONNX Runtime's documentation, "Quantize ONNX models", on U8S8 and reduce_range.
    """
    if cpu != "auto":
        return cpu == "x86"
    machine = read_environment()
    is_x86 = machine.architecture.lower() in ("x86_64", "amd64", "i386", "i686")
    return is_x86 and not any("vnni" in feature for feature in machine.cpu_features)


def _quantize(graph: Any, calibration: Sequence[Images], reduce_range: bool) -> Any:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    names = [value.name for value in graph.graph.input]
    size = graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 1  # 0: a free batch
    count = -(-len(calibration[0]) // size)
    batches = [
        np.resize(values, (count * size, *values.shape[1:])).reshape(-1, size, *values.shape[1:])
        for values in calibration
    ]

    class Samples(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = zip(*batches, strict=True)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._batches, None)
            return None if batch is None else dict(zip(names, batch, strict=True))

    with temporary_folder() as folder:  # the quantizer reads and writes files
        source, prepared, target = (folder / f"{step}.onnx" for step in "abc")
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
        quantized = onnx.load(target)
        kinds = {name: node.op_type for node in graph.graph.node for name in node.output}
        for output in quantized.graph.output:
            quantized = _keep_output_float(quantized, output.name, kinds.get(output.name))
        return quantized


def _keep_output_float(model: Any, output: str, kind: str | None) -> Any:
    """Remove the last QuantizeLinear and DequantizeLinear: the output is float32 anyway.

    Rounding the logits to 256 steps turns close values into ties, and costs two nodes.

    Args:
        model: the quantized model.
        output: the name of the output.
        kind: the operator that computes it in the float model. If another one is left, the range
            of the QuantizeLinear replaces a ReLU, and the nodes must stay.
    """
    nodes = model.graph.node
    producers = {name: node for node in nodes for name in node.output}
    last = producers[output]
    if last.op_type != "DequantizeLinear":
        return model
    quantize = producers[last.input[0]]
    value = quantize.input[0]
    producer = producers.get(value)
    read = [name for node in nodes for name in node.input]
    if producer is None or producer.op_type != kind:
        return model
    if read.count(value) != 1 or read.count(last.input[0]) != 1:
        return model
    producer.output[list(producer.output).index(value)] = output
    nodes.remove(last)
    nodes.remove(quantize)
    return model
