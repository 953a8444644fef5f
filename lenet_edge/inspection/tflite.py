"""The operators of a .tflite file."""

from __future__ import annotations

import math
from collections.abc import Iterator

from lenet_edge.inspection.layer import Layer
from lenet_edge.runtimes._tflite import WEIGHTS, count_macs, plain_interpreter


def read(path: str) -> Iterator[Layer]:
    """Yield the operators, but those that only make weights real."""
    interpreter = plain_interpreter(path)
    tensors = {one["index"]: one for one in interpreter.get_tensor_details()}
    operators = interpreter._get_ops_details()
    computed = {index for one in operators for index in one["outputs"]}
    computed |= {one["index"] for one in interpreter.get_input_details()}
    counted: set[int] = set()
    origin: dict[int, int] = {}  # float16 weights pass through a DEQUANTIZE on their way
    for one in operators:
        kind, inputs, output = one["op_name"], list(one["inputs"]), tensors[one["outputs"][0]]
        constants = [i for i in inputs if i >= 0 and (i not in computed or i in origin)]
        if kind in ("DEQUANTIZE", "DENSIFY") and constants:
            origin[output["index"]] = origin.get(constants[0], constants[0])
            continue
        parameters = 0
        for i in constants:
            # int32 is a bias where the operator has weights, and a shape or an axis elsewhere.
            bias = kind in WEIGHTS and i in inputs[2:]
            if tensors[i]["dtype"].__name__.startswith(("float", "int8", "uint8", "int16")) or bias:
                source = origin.get(i, i)
                parameters += 0 if source in counted else math.prod(tensors[source]["shape"])
                counted.add(source)
        shape = [int(size) for size in output["shape_signature"]]
        yield Layer(
            name=output["name"].split(";")[0],
            kind=kind,
            output_shape=tuple(None if size < 0 else size for size in shape),
            parameters=int(parameters),
            macs=count_macs(one, tensors),
            dense=kind == "FULLY_CONNECTED",
        )
