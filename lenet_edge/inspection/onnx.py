"""The operators of an .onnx file."""

from __future__ import annotations

import math
from typing import Any

from lenet_edge.errors import MissingPackageError
from lenet_edge.inspection.layer import Layer

# Where each operator has its weights: among its inputs.
_WEIGHTS = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "MatMulInteger": 1,
                 "ConvInteger": 1, "QLinearConv": 3, "QLinearMatMul": 3}  # fmt: skip
_DENSE = ("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul")


def read(path: str) -> list[Layer]:
    """Return the operators, but those that only make weights real."""
    try:
        import onnx
    except ImportError:
        raise MissingPackageError("onnx", "host") from None
    graph = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True).graph
    shapes: dict[str, tuple[int | None, ...]] = {
        value.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else None
            for dim in value.type.tensor_type.shape.dim
        )
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    # The size of each constant that is a parameter. Whole numbers are shapes and axes, unless an
    # operator takes them as weights or a DequantizeLinear makes them real.
    constants = {one.name: (math.prod(one.dims), one.data_type) for one in graph.initializer}
    shapes.update((one.name, tuple(one.dims)) for one in graph.initializer)
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            value = node.attribute[0].t
            constants[node.output[0]] = (math.prod(value.dims), value.data_type)
            shapes[node.output[0]] = tuple(value.dims)
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    counted: set[str] = set()
    origin: dict[str, str] = {}
    layers: list[Layer] = []
    made_by: dict[str, int] = {}  # of each tensor, the place of its layer in `layers`
    for node in graph.node:
        if node.op_type in ("Constant", "QuantizeLinear", "DequantizeLinear", "Cast"):
            source = node.input[0] if node.input else ""
            if source in constants or source in origin:
                origin[node.output[0]] = origin.get(source, source)
                shapes[node.output[0]] = shapes[origin[node.output[0]]]
            elif source in made_by:
                made_by[node.output[0]] = made_by[source]
            continue
        weights = _WEIGHTS.get(node.op_type)
        parameters = 0
        for place, name in enumerate(node.input):
            source = origin.get(name, name)
            if source not in constants or source in counted:
                continue
            size, dtype = constants[source]
            if node.op_type.startswith("QLinear"):  # scales and zero points stand among them
                is_parameter = place == weights or (node.op_type == "QLinearConv" and place == 8)
            else:
                is_parameter = name in origin or place == weights or dtype in floats
            if is_parameter:
                parameters += size
                counted.add(source)
        before = next((made_by[name] for name in node.input if name in made_by), None)
        if node.op_type == "Add" and parameters and before is not None and layers[before].dense:
            # The bias of the matrix product before it.
            product = layers[before]
            layers[before] = Layer(
                **{**vars(product), "parameters": product.parameters + parameters}
            )
            made_by[node.output[0]] = before
            continue
        shape = shapes.get(node.output[0], ())
        layers.append(
            Layer(
                name=node.name or node.output[0],
                kind=node.op_type,
                output_shape=shape,
                parameters=parameters,
                macs=_macs(node, shapes, shape) if weights else 0,
                dense=node.op_type in _DENSE,
            )
        )
        made_by.update(dict.fromkeys(node.output, len(layers) - 1))
    return layers


def _macs(node: Any, shapes: dict[str, Any], output: tuple[int | None, ...]) -> int:
    weights = shapes.get(node.input[_WEIGHTS[node.op_type]], ())
    if node.op_type in _DENSE:
        rows = output[1:-1] if len(output) > 1 else ()
        inner = shapes.get(node.input[0], (None,))[-1]
        if not weights and inner is None:
            return 0
        size = math.prod(weights[-2:]) if weights else inner * (output[-1] or 1)
        return int(size * math.prod(dim or 1 for dim in rows))
    where = shapes[node.input[0]] if node.op_type == "ConvTranspose" else output
    return int(math.prod(weights) * math.prod(dim or 1 for dim in where[2:]))
