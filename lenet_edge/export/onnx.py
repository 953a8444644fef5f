"""Export to ONNX: tf2onnx for the graph, ONNX Runtime's quantizer for int8."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from lenet_edge.export.checkpoint import inference_function
from lenet_edge.target import Images

import onnx  # isort: skip
import tf2onnx  # isort: skip

CONVERTER = f"tf2onnx {tf2onnx.__version__}"
PRECISIONS = ("float32", "int8")
OPSET = 17


def convert(model: Any, precision: str, calibration: Images) -> bytes:
    """Return the .onnx file of a Keras classifier.

    Args:
        model: the Keras model.
        precision: "float32", or "int8" (QDQ nodes inside; input and output stay float32).
        calibration: images that set the ranges of the int8 activations: float32 of shape
            (N, height, width, channels), scaled as in training.
    """
    function = inference_function(model)
    graph, _ = tf2onnx.convert.from_function(
        function, input_signature=function.input_signature, opset=OPSET
    )
    _renumber(graph.graph)
    # tf2onnx numbers the free batch axis anew in each run; a name says what it is.
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    if precision == "int8":
        graph = _quantize(graph, calibration)
    onnx.checker.check_model(graph, full_check=True)
    content = graph.SerializeToString(deterministic=True)
    assert isinstance(content, bytes)
    return content


def _renumber(graph: Any) -> None:
    """Number tf2onnx's own names from 1, so that the same model always gives the same bytes.

    Its counter goes on from one conversion to the next, and so does the one in the doc string.
    """
    numbers: dict[str, int] = {}

    def name(old: str) -> str:
        return re.sub(
            r"__(\d+)(?=:|$)",
            lambda found: f"__{numbers.setdefault(found[1], len(numbers) + 1)}",
            old,
        )

    graph.doc_string = ""
    for node in graph.node:
        node.name = name(node.name)
        node.input[:] = [name(one) for one in node.input]
        node.output[:] = [name(one) for one in node.output]
    for named in (*graph.initializer, *graph.value_info):
        named.name = name(named.name)


def _quantize(graph: Any, calibration: Images) -> Any:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    name = graph.graph.input[0].name

    class Samples(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._images = iter(calibration)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self._images, None)
            return None if image is None else {name: image[None]}

    with tempfile.TemporaryDirectory() as folder:  # the quantizer works from file to file
        source, prepared, target = (Path(folder, f"{step}.onnx") for step in "abc")
        onnx.save(graph, source)
        quant_pre_process(source, prepared)
        quantize_static(
            prepared,
            target,
            Samples(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            # Without VNNI, x86 adds pairs of int8 products in 16 bits, and full-range weights
            # overflow there; 7-bit weights do not, and lose next to nothing elsewhere.
            reduce_range=True,
        )
        return onnx.load(target)
