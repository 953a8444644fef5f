"""What a model is made of: its layers, their parameters and their multiplications."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_edge import worker
from lenet_edge.artifact import check_format
from lenet_edge.errors import LenetEdgeError, MissingPackageError, ModelFileError
from lenet_edge.runtimes._tflite import plain_interpreter


@dataclass(frozen=True)
class Layer:
    """One layer, or one operator of an exported graph.

    `output_shape` has the batch first, None where it is free. `macs` are the multiply-accumulate
    operations for one image; convolutions and matrix products have them, what else a layer does
    is counted as none. `dense` tells the fully connected ones.
    """

    name: str
    kind: str
    output_shape: tuple[int | None, ...]
    parameters: int
    macs: int
    dense: bool


def inspect(path: Path) -> list[Layer]:
    """Return the layers of a .keras, .tflite or .onnx file, read in a process of its own.

    Raises:
        ModelFileError: the file cannot be read.
        MissingPackageError: nothing that is installed can read it.
    """
    try:
        found = worker.call("inspection:read", path=str(path), format=check_format(path))
    except MissingPackageError:
        raise
    except LenetEdgeError as error:
        raise ModelFileError(f"{path} cannot be inspected: {error}") from error
    return [Layer(**{**one, "output_shape": tuple(one["output_shape"])}) for one in found]


def read(path: str, format: str) -> list[dict[str, Any]]:
    """Return the layers as JSON; called in a fresh process."""
    readers = {"keras": _read_keras, "tflite": _read_tflite, "onnx": _read_onnx}
    return [vars(layer) for layer in readers[format](path)]


def _read_keras(path: str) -> Iterator[Layer]:
    try:
        import tensorflow as tf
    except ImportError:
        raise MissingPackageError("tensorflow", "host") from None
    for layer in _flat(tf.keras.models.load_model(path, compile=False, safe_mode=True)):
        shape = tuple(layer.output.shape)
        where = layer.input.shape if "Transpose" in type(layer).__name__ else shape
        kernels = [w for w in layer.weights if "kernel" in w.name and len(w.shape) > 1]
        yield Layer(
            name=layer.name,
            kind=type(layer).__name__,
            output_shape=shape,
            parameters=layer.count_params(),
            macs=sum(math.prod(kernel.shape) for kernel in kernels) * math.prod(where[1:-1]),
            dense=isinstance(layer, tf.keras.layers.Dense),
        )


def _flat(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        if hasattr(layer, "layers"):  # a model used as a layer
            yield from _flat(layer)
        elif type(layer).__name__ != "InputLayer":
            yield layer


# Where each operator has its weights: among its inputs.
_TFLITE_WEIGHTS = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "TRANSPOSE_CONV": 1}
_ONNX_WEIGHTS = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "MatMulInteger": 1,
                 "ConvInteger": 1, "QLinearConv": 3, "QLinearMatMul": 3}  # fmt: skip
_ONNX_DENSE = ("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul")


def _read_tflite(path: str) -> Iterator[Layer]:
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
            bias = kind in _TFLITE_WEIGHTS and i in inputs[2:]
            if tensors[i]["dtype"].__name__.startswith(("float", "int8", "uint8", "int16")) or bias:
                source = origin.get(i, i)
                parameters += 0 if source in counted else math.prod(tensors[source]["shape"])
                counted.add(source)
        shape = [int(size) for size in output["shape_signature"]]
        macs = 0
        if kind in _TFLITE_WEIGHTS:
            weights = tensors[inputs[_TFLITE_WEIGHTS[kind]]]["shape"]
            where = tensors[inputs[2]]["shape"] if kind == "TRANSPOSE_CONV" else shape
            macs = math.prod(weights) * math.prod(where[1:-1])
        elif kind == "BATCH_MATMUL":
            macs = math.prod(shape[1:]) * int(tensors[inputs[0]]["shape"][-1])
        yield Layer(
            name=output["name"].split(";")[0],
            kind=kind,
            output_shape=tuple(None if size < 0 else size for size in shape),
            parameters=int(parameters),
            macs=int(macs),
            dense=kind == "FULLY_CONNECTED",
        )


def _read_onnx(path: str) -> list[Layer]:
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
        weights = _ONNX_WEIGHTS.get(node.op_type)
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
                macs=_onnx_macs(node, shapes, shape) if weights else 0,
                dense=node.op_type in _ONNX_DENSE,
            )
        )
        made_by.update(dict.fromkeys(node.output, len(layers) - 1))
    return layers


def _onnx_macs(node: Any, shapes: dict[str, Any], output: tuple[int | None, ...]) -> int:
    weights = shapes.get(node.input[_ONNX_WEIGHTS[node.op_type]], ())
    if node.op_type in _ONNX_DENSE:
        rows = output[1:-1] if len(output) > 1 else ()
        inner = shapes.get(node.input[0], (None,))[-1]
        if not weights and inner is None:
            return 0
        size = math.prod(weights[-2:]) if weights else inner * (output[-1] or 1)
        return int(size * math.prod(dim or 1 for dim in rows))
    where = shapes[node.input[0]] if node.op_type == "ConvTranspose" else output
    return int(math.prod(weights) * math.prod(dim or 1 for dim in where[2:]))
