"""The operators of an .onnx file."""

from __future__ import annotations

import math
from typing import Any

from lenet_edge.errors import MissingPackageError
from lenet_edge.inspection.layer import Layer

# The index of the weights among the inputs of each operator.
_WEIGHTS = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "MatMulInteger": 1,
                 "ConvInteger": 1, "QLinearConv": 3, "QLinearMatMul": 3}  # fmt: skip
_DENSE = ("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul")


def read(path: str) -> list[Layer]:
    """Return the operators, except those that only dequantize weights."""
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
    # The size and type of each constant. Integers are shapes and axes, unless an operator uses them
    # as weights or a DequantizeLinear converts them to real numbers.
    constants = {
        tensor.name: (math.prod(tensor.dims), tensor.data_type) for tensor in graph.initializer
    }
    shapes.update((tensor.name, tuple(tensor.dims)) for tensor in graph.initializer)
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            value = node.attribute[0].t
            constants[node.output[0]] = (math.prod(value.dims), value.data_type)
            shapes[node.output[0]] = tuple(value.dims)
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    counted: set[str] = set()
    origin: dict[str, str] = {}
    layers: list[Layer] = []
    producer: dict[str, int] = {}  # for each tensor, the index of its layer in `layers`
    for node in graph.node:
        if node.op_type in ("Constant", "QuantizeLinear", "DequantizeLinear", "Cast"):
            source = node.input[0] if node.input else ""
            if source in constants or source in origin:
                origin[node.output[0]] = origin.get(source, source)
                shapes[node.output[0]] = shapes[origin[node.output[0]]]
            elif source in producer:
                producer[node.output[0]] = producer[source]
            continue
        weights = _WEIGHTS.get(node.op_type)
        parameters = 0
        for index, name in enumerate(node.input):
            source = origin.get(name, name)
            if source not in constants or source in counted:
                continue
            size, dtype = constants[source]
            if node.op_type.startswith("QLinear"):  # the inputs include scales and zero points
                is_parameter = index == weights or (node.op_type == "QLinearConv" and index == 8)
            else:
                is_parameter = name in origin or index == weights or dtype in floats
            if is_parameter:
                parameters += size
                counted.add(source)
        before = next((producer[name] for name in node.input if name in producer), None)
        if node.op_type == "Add" and parameters and before is not None and layers[before].dense:
            # This is the bias of the matrix product before it.
            product = layers[before]
            layers[before] = Layer(
                **{**vars(product), "parameters": product.parameters + parameters}
            )
            producer[node.output[0]] = before
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
        producer.update(dict.fromkeys(node.output, len(layers) - 1))
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
    positions = shapes[node.input[0]] if node.op_type == "ConvTranspose" else output
    return int(math.prod(weights) * math.prod(dim or 1 for dim in positions[2:]))
