"""The graphs of an .onnx file: inputs, outputs, operators, parameters and MACs."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lenet_edge.errors import MissingPackageError, ModelFileError
from lenet_edge.inspection.graph import GraphTensor, ModelGraph, Subgraph, loop_phrase, phrases
from lenet_edge.inspection.layer import Layer, total
from lenet_edge.inspection.onnx_shapes import (
    count_values,
    fix_batch,
    infer_shapes,
    nested_graphs,
    size_of_axis,
)

# The index of the weights among the inputs of each operator.
_WEIGHTS = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "MatMulInteger": 1,
                 "ConvInteger": 1, "QLinearConv": 3, "QLinearMatMul": 3}  # fmt: skip
_DENSE = ("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul")
_RECURRENT = ("LSTM", "GRU", "RNN")
# Operators of the standard that multiply matrices in a number that is not counted.
_UNCOUNTED = ("Attention", "DeformConv", "Einsum")
# Operators that run a graph of their own: an unknown number of times, or one of several.
_BRANCHES = ("If", "Loop", "Scan", "SequenceMap")


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

    nodes = [*_all_nodes(model.graph), *(n for f in model.functions for n in f.node)]
    operators = Counter(node.op_type for node in nodes)
    notes = _notes(model, nodes)
    if model.functions:
        try:
            model = onnx.inliner.inline_local_functions(model)
        except Exception:  # such as a function that calls itself; its calls are not counted
            notes.append("local functions that cannot be expanded")
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    entries = [value for value in graph.input if value.name not in weights]
    inputs, outputs = (tuple(map(_describe, values)) for values in (entries, graph.output))
    free, batch_size, name = fix_batch(entries)
    shapes, folded = infer_shapes(model, name)
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
            dim.dim_param or None if (size := size_of_axis(dim)) is None else size
            for dim in tensor.shape.dim
        )
    sparse = "sparse " if kind == "sparse_tensor_type" else ""
    return GraphTensor(value.name, f"{prefix}{sparse}{dtype(tensor.elem_type)}", shape)


def _all_nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for _, nested in nested_graphs(node):
            yield from _all_nodes(nested)


def _notes(model: Any, nodes: Sequence[Any]) -> list[str]:
    """Return the phrases about the functions of a file and its operators from elsewhere."""
    notes = []
    local = {(function.domain, function.name) for function in model.functions}
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
        # The number of values and the type of each constant. Integers are shapes and axes, unless
        # an operator uses them as weights or a DequantizeLinear converts them to real numbers.
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
            constants[tensor.name] = (count_values(tensor.dims), tensor.data_type)
            shapes[tensor.name] = tuple(tensor.dims)
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute and node.output:
                value = node.attribute[0].t
                if node.attribute[0].name == "value":
                    constants[node.output[0]] = (count_values(value.dims), value.data_type)
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
                product = layers[before]
                layers[before] = dataclasses.replace(
                    product,
                    parameters=(product.parameters or 0) + parameters,
                    parameter_bytes=(product.parameter_bytes or 0) + size_bytes,
                )
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
        nested = list(nested_graphs(node))
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
