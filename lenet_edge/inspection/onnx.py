"""The operators of an .onnx file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.errors import MissingPackageError
from lenet_edge.inspection.layer import Layer

# The index of the weights among the inputs of each operator.
_WEIGHTS = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "MatMulInteger": 1,
                 "ConvInteger": 1, "QLinearConv": 3, "QLinearMatMul": 3}  # fmt: skip
_DENSE = ("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul")
_RECURRENT = ("LSTM", "GRU", "RNN")
# Operators of the standard that multiply matrices in a number that is not counted.
_UNCOUNTED = ("Attention", "DeformConv", "Einsum", "Loop", "Scan", "SequenceMap")
# Operators that compute shapes from shapes.
_ON_SHAPES = ("Add", "Cast", "Concat", "Constant", "Div", "Gather", "Identity", "Mul", "ReduceProd",
              "Shape", "Size", "Slice", "Squeeze", "Sub", "Unsqueeze")  # fmt: skip
_MAX_SHAPE_VALUES = 64
_MAX_ROUNDS = 256

Shape = tuple["int | None", ...]


def read(path: str) -> list[Layer]:
    """Return the operators, except those that dequantize weights or compute shapes."""
    try:
        import onnx
        import onnx.inliner
    except ImportError:
        raise MissingPackageError("onnx", "host") from None
    # Shapes and sizes stand in the model itself. Its weights may fill other files.
    model = onnx.load(path, load_external_data=False)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    images = [value for value in graph.input if value.name not in weights]
    free, batch_size, name = _fix_batch(images)
    shapes, folded = _infer(model, name)
    # The size and type of each constant. Integers are shapes and axes, unless an operator uses them
    # as weights or a DequantizeLinear converts them to real numbers.
    constants = {
        tensor.name: (math.prod(tensor.dims), tensor.data_type) for tensor in graph.initializer
    }
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
                shapes[node.output[0]] = shapes.get(origin[node.output[0]])
            elif source in producer:
                producer[node.output[0]] = producer[source]
            continue
        if node.output and all(name in folded for name in node.output if name):
            continue
        position = _WEIGHTS.get(node.op_type)
        parameters = 0
        for index, name in enumerate(node.input):
            source = origin.get(name, name)
            if source not in constants or source in counted:
                continue
            size, dtype = constants[source]
            if node.op_type.startswith("QLinear"):  # the inputs include scales and zero points
                is_parameter = index == position or (node.op_type == "QLinearConv" and index == 8)
            else:
                is_parameter = name in origin or index == position or dtype in floats
            if is_parameter:
                parameters += size
                counted.add(source)
        before = next((producer[name] for name in node.input if name in producer), None)
        if node.op_type == "Add" and parameters and before is not None and layers[before].dense:
            # This is the bias of the matrix product before it.
            product = layers[before]
            layers[before] = Layer(
                **{**vars(product), "parameters": (product.parameters or 0) + parameters}
            )
            producer[node.output[0]] = before
            continue
        output = shapes.get(node.output[0]) if node.output else ()
        nested = list(_nested(node))
        layers.append(
            Layer(
                name=node.name or (node.output[0] if node.output else ""),
                kind=node.op_type,
                output_shape=(None, *output[1:]) if free and output and output[0] == 1 else output,
                parameters=None if any(graph.initializer for graph in nested) else parameters,
                macs=_macs(node, shapes, batch_size, nested),
                dense=node.op_type in _DENSE,
            )
        )
        producer.update(dict.fromkeys(node.output, len(layers) - 1))
    return layers


def _fix_batch(images: list[Any]) -> tuple[bool, int, str | None]:
    """Set a free batch axis of a graph's inputs to one image.

    Returns:
        True if the batch was free; the number of images in one call; the name of a free batch.
    """
    first = images[0].type.tensor_type.shape.dim if images else ()
    if not first:
        return False, 1, None
    free, name = not first[0].HasField("dim_value"), first[0].dim_param
    for value in images:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if (name and dim.dim_param == name) or (
                free and axis == 0 and not dim.HasField("dim_value")
            ):
                dim.dim_value = 1
    return free, max(1, first[0].dim_value), name or None


def _infer(model: Any, batch: str | None) -> tuple[dict[str, Any], set[str]]:
    """Infer the shape of each tensor of a model.

    onnx infers no shape behind a Reshape whose target is computed. So constants are folded into
    such targets until no further shape follows.

    Args:
        model: the model.
        batch: the name of its free batch, which holds one image; None if it has none.

    Returns:
        The shapes, and the names of the tensors that hold constants computed from shapes.
    """
    import onnx
    from onnx import helper, numpy_helper

    shapes: dict[str, Any] = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    values = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if _is_shape(math.prod(tensor.dims), tensor.data_type)
        and tensor.data_location != onnx.TensorProto.EXTERNAL
    }
    # A copy without weights: inference needs only their shapes, and has a limit of 2 GiB.
    graph = model.graph
    bare = helper.make_model(
        helper.make_graph(
            graph.node, graph.name, graph.input, graph.output, value_info=graph.value_info
        ),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
    )
    names = {value.name for value in bare.graph.input}
    for tensor in model.graph.initializer:
        if tensor.name in values:
            bare.graph.initializer.append(tensor)
        elif tensor.name not in names:
            bare.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    # The declared sizes of a free batch would contradict the batch of one image.
    for value in (*bare.graph.output, *bare.graph.value_info):
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    folded: set[str] = set()
    for _ in range(_MAX_ROUNDS):
        inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True).graph
        for value in (*inferred.input, *inferred.value_info, *inferred.output):
            if value.type.tensor_type.HasField("shape"):
                shapes[value.name] = tuple(
                    dim.dim_value if dim.HasField("dim_value") else None
                    for dim in value.type.tensor_type.shape.dim
                )
        new = _fold(bare, shapes, values)
        if not new:
            break
        folded |= set(new)
        values.update(new)
        rest = [node for node in bare.graph.node if not set(node.output) & set(new)]
        del bare.graph.node[:]
        bare.graph.node.extend(rest)
        bare.graph.initializer.extend(
            numpy_helper.from_array(value, name) for name, value in new.items()
        )
    # The sizes that the graph declares fill the gaps.
    for value in (*model.graph.value_info, *model.graph.output):
        sizes = [
            dim.dim_value if dim.HasField("dim_value") else 1 if dim.dim_param == batch else None
            for dim in value.type.tensor_type.shape.dim
        ]
        if not value.type.tensor_type.HasField("shape"):
            continue
        found = shapes.get(value.name)
        if found is None or len(found) != len(sizes):
            found = (None,) * len(sizes)
        shapes[value.name] = tuple(
            declared if size is None else size for size, declared in zip(found, sizes, strict=True)
        )
    return shapes, folded


def _is_shape(size: int, data_type: int) -> bool:
    import onnx

    integers = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
    return size <= _MAX_SHAPE_VALUES and data_type in integers


def _fold(
    model: Any, shapes: dict[str, Any], known: dict[str, npt.NDArray[Any]]
) -> dict[str, npt.NDArray[Any]]:
    """Return the value of each tensor of a model that follows from known shapes and values."""
    from onnx.reference import ReferenceEvaluator

    opsets = {opset.domain: opset.version for opset in model.opset_import}
    outputs = {value.name for value in model.graph.output}
    new: dict[str, npt.NDArray[Any]] = {}
    for node in model.graph.node:
        if node.op_type not in _ON_SHAPES or node.domain or len(node.output) != 1:
            continue
        (name,) = node.output
        inputs = {source: new.get(source, known.get(source)) for source in node.input if source}
        if node.op_type in ("Shape", "Size"):
            shape = shapes.get(node.input[0])
            if shape is None or None in shape:
                continue
            value = np.array(shape, np.int64)
            if node.op_type == "Size":
                value = value.prod()
            else:
                ends = {attribute.name: attribute.i for attribute in node.attribute}
                value = value[ends.get("start", 0) : ends.get("end", len(value))]
        elif name in outputs or any(value is None for value in inputs.values()):
            continue
        else:
            try:
                (value,) = ReferenceEvaluator(node, opsets=opsets).run(None, inputs)
            except Exception:  # a wrong node has no value, so its shape stays unknown
                continue
            value = np.asarray(value)
        if value.size <= _MAX_SHAPE_VALUES and value.dtype in (np.int64, np.int32):
            new[name] = np.asarray(value)
    return new


def _nested(node: Any) -> Iterator[Any]:
    """Yield the graphs inside a node, such as the branches of an If."""
    for attribute in node.attribute:
        yield from (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs


def _multiplies(graph: Any) -> bool:
    return any(
        node.op_type in (*_WEIGHTS, *_RECURRENT, *_UNCOUNTED)
        or _is_foreign(node)
        or any(map(_multiplies, _nested(node)))
        for node in graph.node
    )


def _is_foreign(node: Any) -> bool:
    """Return True for an operator that the ONNX standard does not define."""
    return node.domain not in ("", "ai.onnx", "ai.onnx.ml")


def _macs(node: Any, shapes: dict[str, Any], batch_size: int, nested: list[Any]) -> int | None:
    """Return the multiply-accumulate operations of a node for one image; None if unknown."""
    kind = node.op_type
    if kind in _UNCOUNTED or _is_foreign(node) or any(map(_multiplies, nested)):
        return None
    if kind not in _WEIGHTS and kind not in _RECURRENT:
        return 0
    source = shapes.get(node.input[0])
    if kind in _RECURRENT:
        weights = [shapes.get(name) for name in node.input[1:3]]
        if source is None or None in source[:2] or None in weights:
            return None
        steps = source[0] * source[1]  # of all images; the axes depend on the layout
        count = steps * sum(math.prod(shape) for shape in weights if shape)
    else:
        weights_shape = shapes.get(node.input[_WEIGHTS[kind]])
        output = source if kind == "ConvTranspose" else shapes.get(node.output[0])
        if kind in _DENSE:
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            factors = (*(output or (None,)), (source or (None,))[0 if transposed else -1])
            if factors[-1] is None and weights_shape and len(weights_shape) > 1:
                turned = any(a.name == "transB" and a.i for a in node.attribute)
                factors = (*factors[:-1], weights_shape[-1 if turned else -2])
        else:
            factors = (*(output or (None,)), *(weights_shape or (None, None))[1:])
        if None in factors:
            return None
        count = math.prod(factors)
    return int(count) // batch_size
