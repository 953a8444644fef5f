""".tflite files for tests, built from the FlatBuffers schema without TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from lenet_edge.export import int4
from lenet_edge.export.embed import write_tflite

TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int32": schema.TensorType.INT32,
    "uint8": schema.TensorType.UINT8,
    "int64": schema.TensorType.INT64,
    "int8": schema.TensorType.INT8,
    "int4": schema.TensorType.INT4,
    "int16": schema.TensorType.INT16,
    "bool": schema.TensorType.BOOL,
}
# The name of the options table of each operator, where it is not that of the operator.
_OPTIONS = {
    "CONV_2D": "Conv2D", "DEPTHWISE_CONV_2D": "DepthwiseConv2D", "MEAN": "Reducer",
    "SUM": "Reducer", "HARD_SWISH": "HardSwish",
    "FULLY_CONNECTED": "FullyConnected", "MAX_POOL_2D": "Pool2D", "AVERAGE_POOL_2D": "Pool2D",
    "CONCATENATION": "Concatenation", "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighbor",
    "LEAKY_RELU": "LeakyRelu", "EXPAND_DIMS": "ExpandDims", "PADV2": "PadV2",
}  # fmt: skip
_VERSIONS = {
    "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "RESIZE_NEAREST_NEIGHBOR": 3,
    "RESHAPE": 1, "PADV2": 1, "ELU": 1, "RELU_N1_TO_1": 1, "RELU_0_TO_1": 1, "SQUEEZE": 1,
    "EXPAND_DIMS": 1,
}  # fmt: skip
NO_OPTIONS = ("LOGISTIC", "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "TANH", "ELU")


class File:
    """A .tflite file under construction; methods return the index of a tensor."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.inputs: list[int] = []
        self.outputs: list[int] = []
        self.model.subgraphs = [self.graph]

    def tensor(
        self,
        shape: Sequence[int],
        dtype: str = "int8",
        scale: float | Sequence[float] = 0.5,
        zero: int = 0,
        values: npt.NDArray[Any] | None = None,
        axis: int = 0,
        signature: Sequence[int] | None = None,
    ) -> int:
        """Add a tensor; `values` make it a constant."""
        made = schema.TensorT()
        made.shape, made.type = [int(size) for size in shape], TYPES[dtype]
        made.name = f"t{len(self.graph.tensors)}"
        made.shapeSignature = None if signature is None else list(signature)
        if dtype in ("int8", "int4", "uint8", "int16") or (values is not None and dtype == "int32"):
            scales = [scale] if isinstance(scale, (int, float)) else list(scale)
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale = [float(each) for each in scales]
            made.quantization.zeroPoint = [zero] * len(scales)
            made.quantization.quantizedDimension = axis
        made.buffer = 0
        if values is not None:
            buffer = schema.BufferT()
            values = int4.pack(values) if dtype == "int4" else values
            buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            made.buffer = len(self.model.buffers) - 1
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def input(self, shape: Sequence[int], *facts: Any, **more: Any) -> int:
        """Add an input of the graph."""
        self.inputs.append(self.tensor(shape, *facts, **more))
        return self.inputs[-1]

    def constant(self, values: npt.NDArray[Any], dtype: str = "", **facts: Any) -> int:
        """Add a constant; `dtype` may be "int4" for values of int8."""
        return self.tensor(values.shape, dtype or values.dtype.name, values=values, **facts)

    def operator(self, kind: str, inputs: Sequence[int], output: int, **options: Any) -> int:
        """Add an operator, and return its output."""
        made = schema.OperatorT()
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = _VERSIONS.get(kind, 2)
        self.model.operatorCodes.append(code)
        made.opcodeIndex = len(self.model.operatorCodes) - 1
        made.inputs, made.outputs = list(inputs), [output]
        if kind not in NO_OPTIONS:
            name = _OPTIONS.get(kind, kind.title().replace("_", "")) + "Options"
            made.builtinOptions = getattr(schema, f"{name}T")()
            made.builtinOptionsType = getattr(schema.BuiltinOptions, name)
            for option, value in options.items():
                assert hasattr(made.builtinOptions, option), option
                setattr(made.builtinOptions, option, value)
        self.graph.operators.append(made)
        return output

    def finish(self, outputs: Sequence[int] | None = None) -> bytes:
        """Return the file."""
        self.graph.inputs = self.inputs
        self.graph.outputs = list(outputs or self.outputs)
        content: bytes = write_tflite(self.model)
        return content
