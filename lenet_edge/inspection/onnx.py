"""The graphs of an .onnx file: inputs, outputs, operators, parameters and MACs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.errors import MissingPackageError, ModelFileError
from lenet_edge.inspection.graph import GraphTensor, ModelGraph, Subgraph, loop_phrase, phrases
from lenet_edge.inspection.layer import Layer, total

# The index of the weights among the inputs of each operator.
_WEIGHTS = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "MatMulInteger": 1,
                 "ConvInteger": 1, "QLinearConv": 3, "QLinearMatMul": 3}  # fmt: skip
_DENSE = ("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul")
_RECURRENT = ("LSTM", "GRU", "RNN")
# Operators of the standard that multiply matrices in a number that is not counted.
_UNCOUNTED = ("Attention", "DeformConv", "Einsum")
# Operators that run a graph of their own: an unknown number of times, or one of several.
_BRANCHES = ("If", "Loop", "Scan", "SequenceMap")
# Operators that compute shapes from shapes.
_ON_SHAPES = ("Add", "Cast", "Concat", "Constant", "Div", "Gather", "Identity", "Mul", "ReduceProd",
              "Shape", "Size", "Slice", "Squeeze", "Sub", "Unsqueeze")  # fmt: skip
_MAX_SHAPE_VALUES = 64
_MAX_ROUNDS = 256

Shape = tuple["int | None", ...]


def read(path: str) -> tuple[Layer, ...]:
    """Return the operators, except those that dequantize weights or compute shapes."""
    return read_graph(Path(path)).layers


def read_graph(path: Path) -> ModelGraph:
    """Read an .onnx file.

    Raises:
        MissingPackageError: the onnx package is not installed.
        ModelFileError: the file is damaged.
    """
    try:
        import onnx
    except ImportError:
        raise MissingPackageError("onnx", "host") from None
    try:
        # Shapes and sizes stand in the model itself. Its weights may fill other files.
        model = onnx.load(str(path), load_external_data=False)
        if not model.HasField("graph"):
            raise ValueError("it has no graph")
        return _read(model)
    # The parser of Protocol Buffers has an error type of its own. A damaged file may hold any
    # value in any place, such as bytes in place of text.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ModelFileError(f"{path} is damaged ({reason}); get the file again") from error


def _read(model: Any) -> ModelGraph:
    import onnx
    import onnx.inliner

    operators = Counter(node.op_type for node in _all_nodes(model.graph))
    for function in model.functions:
        operators.update(node.op_type for node in function.node)
    notes = _notes(model)
    if model.functions:
        try:
            model = onnx.inliner.inline_local_functions(model)
        except Exception:  # such as a function that calls itself; its calls are not counted
            notes.append("local functions that cannot be expanded")
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    entries = [value for value in graph.input if value.name not in weights]
    inputs, outputs = (tuple(map(_describe, values)) for values in (entries, graph.output))
    free, batch_size, name = _fix_batch(entries)
    shapes, folded = _infer(model, name)
    reader = _OnnxCounter(shapes, folded, batch_size, free)
    layers = reader.layers(graph)
    return ModelGraph(
        inputs=inputs,
        outputs=outputs,
        layers=tuple(layers),
        subgraphs=tuple(reader.subgraphs),
        operators=dict(operators),
        not_counted=phrases(reader.not_counted),
        notes=tuple(notes),
    )


def _describe(value: Any) -> GraphTensor:
    """Return an input or an output of a graph, before its batch is fixed."""
    import onnx

    def dtype(number: int) -> str:
        names = {"FLOAT": "float32", "DOUBLE": "float64"}
        try:
            name = onnx.TensorProto.DataType.Name(number)
        except ValueError:
            return f"type {number}"
        return str(names.get(name, name.lower()))

    kind, prefix, type_ = value.type.WhichOneof("value"), "", value.type
    while kind in ("sequence_type", "optional_type"):
        prefix += f"{kind.partition('_')[0]} of "
        type_ = getattr(type_, kind).elem_type
        kind = type_.WhichOneof("value")
    if kind not in ("tensor_type", "sparse_tensor_type"):
        return GraphTensor(value.name, prefix + ("map" if kind == "map_type" else "?"), None)
    tensor = getattr(type_, kind)
    shape: tuple[int | str | None, ...] | None = None
    if tensor.HasField("shape"):
        shape = tuple(
            dim.dim_param or None if (size := _size(dim)) is None else size
            for dim in tensor.shape.dim
        )
    sparse = "sparse " if kind == "sparse_tensor_type" else ""
    return GraphTensor(value.name, f"{prefix}{sparse}{dtype(tensor.elem_type)}", shape)


def _all_nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for _, nested in _nested(node):
            yield from _all_nodes(nested)


def _notes(model: Any) -> list[str]:
    notes = []
    local = {(function.domain, function.name) for function in model.functions}
    nodes = [*_all_nodes(model.graph), *(n for f in model.functions for n in f.node)]
    custom = sorted(
        {
            f"{node.domain}.{node.op_type}"
            for node in nodes
            if _is_foreign(node) and (node.domain, node.op_type) not in local
        }
    )
    if local:
        notes.append(f"functions of the file itself: {', '.join(sorted(n for _, n in local))}")
    if custom:
        notes.append(f"operators outside of the ONNX standard: {', '.join(custom)}")
    return notes


class _OnnxCounter:
    """Reader of the operators of a graph and its nested graphs; it counts each constant once."""

    def __init__(
        self, shapes: dict[str, Any], folded: set[str], batch_size: int, free: bool
    ) -> None:
        self._shapes, self._folded = shapes, folded
        self._batch_size, self._free = batch_size, free
        # The size, type and bytes of each constant. Integers are shapes and axes, unless an
        # operator uses them as weights or a DequantizeLinear converts them to real numbers.
        self._constants: dict[str, tuple[int, int]] = {}
        self._counted: set[str] = set()
        self._origin: dict[str, str] = {}
        self.subgraphs: list[Subgraph] = []
        self.not_counted: Counter[str] = Counter()

    def layers(self, graph: Any, is_main: bool = True) -> list[Layer]:
        """Return the operators of a graph, except those for weights and shapes."""
        import onnx

        shapes, constants = self._shapes, self._constants
        for tensor in graph.initializer:
            constants[tensor.name] = (_count(tensor.dims), tensor.data_type)
            shapes[tensor.name] = tuple(tensor.dims)
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute and node.output:
                value = node.attribute[0].t
                if node.attribute[0].name == "value":
                    constants[node.output[0]] = (_count(value.dims), value.data_type)
                    shapes[node.output[0]] = tuple(value.dims)
        floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE,
                  onnx.TensorProto.BFLOAT16)  # fmt: skip
        counted, origin = self._counted, self._origin
        layers: list[Layer] = []
        producer: dict[str, int] = {}  # for each tensor, the index of its layer in `layers`
        for node in graph.node:
            if node.op_type in ("Constant", "QuantizeLinear", "DequantizeLinear", "Cast"):
                source = node.input[0] if node.input else ""
                for output in node.output[:1]:
                    if source in constants or source in origin:
                        origin[output] = origin.get(source, source)
                        shapes[output] = shapes.get(origin[output])
                    elif source in producer:
                        producer[output] = producer[source]
                continue
            if node.output and all(name in self._folded for name in node.output if name):
                continue
            position = _WEIGHTS.get(node.op_type)
            parameters = size_bytes = 0
            for index, name in enumerate(node.input):
                source = origin.get(name, name)
                if source not in constants or source in counted:
                    continue
                size, dtype = constants[source]
                if node.op_type.startswith("QLinear"):  # with scales and zero points
                    is_parameter = index == position or (
                        node.op_type == "QLinearConv" and index == 8
                    )
                else:
                    is_parameter = name in origin or index == position or dtype in floats
                if is_parameter:
                    parameters += size
                    size_bytes += -(-size * _bits(dtype) // 8)
                    counted.add(source)
            before = next((producer[name] for name in node.input if name in producer), None)
            if (
                node.op_type == "Add"
                and parameters
                and node.output
                and before is not None
                and layers[before].dense
            ):
                # This is the bias of the matrix product before it.
                product = vars(layers[before])
                more = {
                    "parameters": product["parameters"] + parameters,
                    "parameter_bytes": product["parameter_bytes"] + size_bytes,
                }
                layers[before] = Layer(**{**product, **more})
                producer[node.output[0]] = before
                continue
            output = shapes.get(node.output[0]) if node.output else ()
            free = self._free and is_main and output and output[0] == 1
            name = node.name or (node.output[0] if node.output else "")
            macs, reason = self._macs(node, name)
            if macs is None and is_main:
                self.not_counted[reason] += 1
            layers.append(
                Layer(
                    name=name,
                    kind=node.op_type,
                    output_shape=(None, *output[1:]) if free and output else output,
                    parameters=parameters,
                    macs=macs,
                    dense=node.op_type in _DENSE,
                    parameter_bytes=size_bytes,
                )
            )
            producer.update(dict.fromkeys(node.output, len(layers) - 1))
        return layers

    def _macs(self, node: Any, name: str) -> tuple[int | None, str]:
        """Return the MACs of a node for one image, or None and the reason."""
        kind = node.op_type
        label = f"{kind} {name}".strip()
        if _is_foreign(node):
            return None, f"{kind}, an operator of {node.domain}"
        nested = list(_nested(node))
        if nested or kind in _BRANCHES:
            runs: dict[str, int | None] = {}
            for role, graph in nested:
                layers = tuple(self.layers(graph, is_main=False))
                self.subgraphs.append(Subgraph(graph.name, (f"{label}: {role}",), layers))
                runs[role] = total(layer.macs for layer in layers)
            if nested and not any(runs.values()) and None not in runs.values():
                return 0, label
            return None, loop_phrase(kind, name, runs)
        if kind in _UNCOUNTED:
            return None, kind
        try:
            macs = _macs(node, self._shapes, self._batch_size)
        except (IndexError, TypeError, ValueError):  # a damaged file
            return None, f"{kind} with inputs that do not fit"
        return macs, f"{kind} of a free or unknown size"


def _fix_batch(images: list[Any]) -> tuple[bool, int, str | None]:
    """Set a free batch axis of a graph's inputs to one image.

    Returns:
        True if the batch was free; the number of images in one call; the name of a free batch.
    """
    images = [value for value in images if value.type.HasField("tensor_type")]
    first = images[0].type.tensor_type.shape.dim if images else ()
    if not first:
        return False, 1, None
    free, name = _size(first[0]) is None, first[0].dim_param
    for value in images:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if (name and dim.dim_param == name) or (free and axis == 0 and _size(dim) is None):
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
        tensor.name: value
        for tensor in model.graph.initializer
        if _is_shape(_count(tensor.dims), tensor.data_type)
        and tensor.data_location != onnx.TensorProto.EXTERNAL
        for value in [_array(tensor)]
        if value is not None
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
        try:
            inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True).graph
        except Exception:  # the file contradicts itself, or has operators of a later standard
            inferred = bare.graph
        for value in _all_values(inferred):
            if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
                shapes[value.name] = tuple(map(_size, value.type.tensor_type.shape.dim))
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
        if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
            continue
        sizes = [
            1 if batch and dim.dim_param == batch else _size(dim)
            for dim in value.type.tensor_type.shape.dim
        ]
        found = shapes.get(value.name)
        if found is None or len(found) != len(sizes):
            found = (None,) * len(sizes)
        shapes[value.name] = tuple(
            declared if size is None else size for size, declared in zip(found, sizes, strict=True)
        )
    return shapes, folded


def _size(dim: Any) -> int | None:
    """Return the size of an axis; None if it is free, which some writers state as -1."""
    return int(dim.dim_value) if dim.HasField("dim_value") and dim.dim_value >= 0 else None


def _all_values(graph: Any) -> Iterator[Any]:
    """Yield the described tensors of a graph and of its nested graphs."""
    yield from (*graph.input, *graph.value_info, *graph.output)
    for node in graph.node:
        for _, nested in _nested(node):
            yield from _all_values(nested)


def _array(tensor: Any) -> npt.NDArray[Any] | None:
    """Return the values of a small constant; None if they do not fit its shape."""
    from onnx import numpy_helper

    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError):
        return None


def _count(dims: Any) -> int:
    return max(0, int(math.prod(dims)))


def _bits(data_type: int) -> int:
    """Return the bits of a number of an ONNX type."""
    import onnx

    name = onnx.TensorProto.DataType.Name(data_type) if data_type else ""
    if name in ("DOUBLE", "INT64", "UINT64"):
        return 64
    if name in ("FLOAT16", "BFLOAT16", "INT16", "UINT16"):
        return 16
    if name.endswith("INT4"):
        return 4
    return 8 if name in ("INT8", "UINT8", "BOOL") or name.startswith("FLOAT8") else 32


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


def _nested(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield the graphs inside a node, such as the branches of an If, each with its role."""
    # The then branch before the else branch.
    for attribute in sorted(node.attribute, key=lambda a: a.name == "else_branch"):
        role = attribute.name.removesuffix("_branch")
        if attribute.HasField("g"):
            yield role, attribute.g
        for graph in attribute.graphs:
            yield role, graph


def _is_foreign(node: Any) -> bool:
    """Return True for an operator that the ONNX standard does not define."""
    return node.domain not in ("", "ai.onnx", "ai.onnx.ml")


def _macs(node: Any, shapes: dict[str, Any], batch_size: int) -> int | None:
    """Return the multiply-accumulate operations of a node for one image; None if unknown."""
    kind = node.op_type
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
