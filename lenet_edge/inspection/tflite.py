"""The operators of a .tflite file."""

from __future__ import annotations

import math
from collections.abc import Iterator

from lenet_edge.inspection.layer import Layer
from lenet_edge.runtimes._tflite import (
    BIASES,
    NESTED,
    STATES,
    calls_batch_size,
    count_macs,
    plain_interpreter,
)


def read(path: str) -> Iterator[Layer]:
    """Yield the operators, except those that only dequantize weights."""
    interpreter = plain_interpreter(path)
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    operators = interpreter._get_ops_details()
    batch_size = calls_batch_size(interpreter)
    computed = {index for operator in operators for index in operator["outputs"]}
    computed |= {tensor["index"] for tensor in interpreter.get_input_details()}
    counted: set[int] = set()
    origin: dict[int, int] = {}  # float16 weights reach their operator through a DEQUANTIZE
    for operator in operators:
        kind, inputs = operator["op_name"], list(operator["inputs"])
        if not len(operator["outputs"]):
            continue
        output = tensors[operator["outputs"][0]]
        states = {inputs[at] for at in STATES.get(kind, ()) if at < len(inputs)}
        constants = [
            i
            for i in inputs
            if i in tensors and i not in states and (i not in computed or i in origin)
        ]
        if kind in ("DEQUANTIZE", "DENSIFY") and constants:
            origin[output["index"]] = origin.get(constants[0], constants[0])
            continue
        biases = {inputs[at] for at in BIASES.get(kind, ()) if at < len(inputs)}
        parameters = 0
        for i in constants:
            # int32 is a bias if the operator has weights. Otherwise it is a shape or an axis.
            bias = i in biases
            if tensors[i]["dtype"].__name__.startswith(("float", "int8", "uint8", "int16")) or bias:
                source = origin.get(i, i)
                parameters += 0 if source in counted else math.prod(tensors[source]["shape"])
                counted.add(source)
        shape = [int(size) for size in output["shape_signature"]]
        yield Layer(
            name=output["name"].split(";")[0],
            kind=kind,
            output_shape=tuple(None if size < 0 else size for size in shape),
            parameters=None if kind in NESTED else int(parameters),
            macs=count_macs(operator, tensors, batch_size),
            dense=kind == "FULLY_CONNECTED",
        )
