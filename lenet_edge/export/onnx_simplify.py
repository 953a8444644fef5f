"""Simplification of ONNX models from elsewhere: a graph without computation on shapes.

PyTorch's exporters leave chains of Shape, Gather and Concat that compute the target of a Reshape,
batch normalization, and nodes that do nothing. A free batch hides the sizes in these chains. So the
batch gets a prime number for the analysis. A size that is a multiple of the prime is the batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.errors import ModelFileError
from lenet_edge.export.onnx_graph import attribute

import onnx  # isort: skip
from onnx import (  # isort: skip
    helper,
    inliner,
    numpy_helper,
    reference,
    shape_inference,
    version_converter,
)

# Stand for a free batch: primes that are the size of nothing else.
_BATCHES = (8191, 8179)
_MAX_FOLDED = 2**22  # values of a constant that replaces nodes, beside those of its inputs
_MIN_OPSET = 13  # quantization per channel needs it
_FOLDABLE = {
    "Shape", "Size", "Gather", "Concat", "Unsqueeze", "Squeeze", "Slice", "Add", "Sub",
    "Mul", "Div", "Mod", "Neg", "Abs", "Cast", "Reshape", "Flatten",
    "Transpose", "Range", "ConstantOfShape", "Expand", "Where", "Equal", "Greater",
    "Less", "Not", "And", "Or", "Min", "Max", "Sqrt", "Pow", "Reciprocal", "ReduceProd",
    "ReduceSum", "ReduceMax", "ReduceMin", "Floor", "Ceil", "Identity", "Tile",
    "GatherND", "ScatterND", "Split", "Pad", "Exp", "Log", "MatMul",
}  # fmt: skip
_LINEAR = ("Conv", "ConvTranspose", "Gemm")
Array = npt.NDArray[Any]
Shape = tuple[int, ...]


def simplify(model: Any) -> Any:
    """Return an `onnx.ModelProto` with the same results, without nodes that compute constants.

    The rewrites are:

    - functions of the model are inlined, and opsets before 13 are upgraded;
    - nodes whose inputs are constants, or the shapes of values, become constants;
    - Identity, Dropout, casts to the same type, and notes of the exporter disappear;
    - batch normalization moves into the weights of the layer before it.

    A free first axis of the inputs and outputs gets the name "batch". Names stay the same.

    Raises:
        ModelFileError: the graph is damaged, or its batch is not the first axis.
    """
    model = inliner.inline_local_functions(model)
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < _MIN_OPSET:
        model = version_converter.convert_version(model, _MIN_OPSET)
    graph, other = (_Simplification(model, batch) for batch in _BATCHES)
    graph.fold()
    if graph.is_free:
        other.fold()
        graph.mark_batch(other)
    graph.drop_copies()
    graph.fuse_normalization()
    return graph.finish()


class _Simplification:
    """A model under change: its nodes, its constants and the shapes of its values."""

    def __init__(self, model: Any, batch: int) -> None:
        self.model, self.batch = onnx.ModelProto(), batch
        self.model.CopyFrom(model)
        graph = self.model.graph
        self.constants: dict[str, Array] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer
        }
        inputs = [value for value in graph.input if value.name not in self.constants]
        del graph.input[:]
        graph.input.extend(inputs)
        self.nodes = []
        for node in graph.node:
            if node.op_type == "Constant" and not node.domain:
                self.constants[node.output[0]] = _constant_value(node)
            else:
                for field in ("doc_string", "metadata_props"):  # PyTorch's have paths of the user
                    node.ClearField(field)
                self.nodes.append(node)
        self.outputs = {value.name for value in graph.output}
        self.is_free = any(map(_batch_is_free, graph.input))
        if self.is_free:
            for value in graph.input:
                if _batch_is_free(value):
                    value.type.tensor_type.shape.dim[0].dim_value = batch
            for value in graph.output:
                value.type.tensor_type.ClearField("shape")
        del graph.value_info[:]
        self._of_batch: set[str] = set()  # constants that were computed from the batch
        self.shapes: dict[str, Shape] = {}
        self.types: dict[str, int] = {}

    def proto(self) -> Any:
        """Return the model in its present state."""
        graph = self.model.graph
        used = {name for node in self.nodes for name in _inputs(node)} | self.outputs
        constants = [
            numpy_helper.from_array(np.asarray(array), name)
            for name, array in self.constants.items()
            if name in used
        ]
        graph = helper.make_graph(self.nodes, "model", graph.input, graph.output, constants)
        model = helper.make_model(
            graph,
            opset_imports=self.model.opset_import,
            ir_version=max(self.model.ir_version, 8),
            producer_name=self.model.producer_name,
            producer_version=self.model.producer_version,
        )
        helper.set_model_props(model, {p.key: p.value for p in self.model.metadata_props})
        return model

    def infer_shapes(self) -> None:
        """Infer the shape and the type of each value."""
        graph = shape_inference.infer_shapes(self.proto(), data_prop=True).graph
        for value in (*graph.value_info, *graph.input, *graph.output):
            tensor = value.type.tensor_type
            if tensor.elem_type:
                self.types[value.name] = tensor.elem_type
            if tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim):
                self.shapes[value.name] = tuple(d.dim_value for d in tensor.shape.dim)

    def fold(self) -> None:
        """Replace nodes by constants until no further node can be computed."""
        while True:
            self.infer_shapes()
            self._settle_casts()
            before = len(self.nodes)
            self.nodes = [node for node in self.nodes if not self._fold(node)]
            self._drop_unused()
            if len(self.nodes) == before:
                return

    def _type(self, name: str) -> int | None:
        """Return the number of the type of a value; None if it is unknown."""
        if name in self.constants:
            return int(helper.np_dtype_to_tensor_dtype(self.constants[name].dtype))
        return self.types.get(name)

    def _settle_casts(self) -> None:
        """Turn each CastLike into a Cast: it reads only the type of its second input."""
        for node in self.nodes:
            kind = self._type(node.input[1]) if node.op_type == "CastLike" else None
            if kind:
                node.op_type = "Cast"
                del node.input[1:]
                node.attribute.append(helper.make_attribute("to", kind))

    def _fold(self, node: Any) -> bool:
        """Compute the outputs of a node as constants, if it can be computed; tell whether."""
        if node.op_type not in _FOLDABLE or node.domain not in ("", "ai.onnx"):
            return False
        if self.outputs.intersection(node.output):
            return False
        if node.op_type in ("Shape", "Size"):
            shape = self.constants[node.input[0]].shape if node.input[0] in self.constants else (
                self.shapes.get(node.input[0])
            )  # fmt: skip
            if shape is None:
                return False
            ends = slice(attribute(node, "start"), attribute(node, "end"))
            sizes = np.array(shape, np.int64)
            value = sizes[ends] if node.op_type == "Shape" else np.array(sizes.prod())
            self.constants[node.output[0]] = value
            return True
        arrays = {name: self.constants.get(name) for name in node.input if name}
        if any(array is None for array in arrays.values()):
            return False
        limit = _MAX_FOLDED + sum(array.size for array in arrays.values() if array is not None)
        sizes_of_outputs = [self.shapes.get(name) for name in node.output]
        if any(shape is None or math.prod(shape) > limit for shape in sizes_of_outputs):
            return False
        opsets = {opset.domain: opset.version for opset in self.model.opset_import}
        results = reference.ReferenceEvaluator(node, opsets=opsets).run(None, arrays)
        self.constants.update(zip(node.output, map(np.asarray, results), strict=True))
        return True

    def mark_batch(self, other: _Simplification) -> None:
        """Mark the constants that depend on the batch: another number for it changes them."""
        if [node.output for node in self.nodes] != [node.output for node in other.nodes]:
            raise ModelFileError(
                "its graph depends on the size of the batch; export it with a fixed batch"
            )
        self._of_batch = {
            name
            for name, array in self.constants.items()
            if not np.array_equal(array, other.constants[name], equal_nan=array.dtype.kind == "f")
        }

    def _drop_unused(self) -> None:
        """Remove nodes whose outputs nothing reads."""
        used = set(self.outputs)
        kept = []
        for node in reversed(self.nodes):
            if used.intersection(node.output):
                used.update(_inputs(node))
                kept.append(node)
        self.nodes = kept[::-1]

    def drop_copies(self) -> None:
        """Remove the nodes that return their input."""
        names: dict[str, str] = {}
        kept = []
        for node in self.nodes:
            node.input[:] = [names.get(name, name) for name in node.input]
            if self._copies(node) and node.output[0] not in self.outputs:
                names[node.output[0]] = node.input[0]
            else:
                kept.append(node)
        self.nodes = kept

    def _copies(self, node: Any) -> bool:
        if node.op_type == "Identity":
            return True
        if node.op_type == "Dropout":
            is_training = self.constants.get(node.input[2]) if len(node.input) > 2 else None
            return is_training is None or not bool(is_training)
        if node.op_type == "Cast":
            return bool(self._type(node.input[0]) == attribute(node, "to"))
        return False

    def fuse_normalization(self) -> None:
        """Move batch normalization into the weights of the layer before it."""
        producers = {name: node for node in self.nodes for name in node.output}
        readers: dict[str, int] = {}
        for name in (name for node in self.nodes for name in _inputs(node)):
            readers[name] = readers.get(name, 0) + 1
        for node in list(self.nodes):
            layer = producers.get(node.input[0]) if node.op_type == "BatchNormalization" else None
            if layer is None or layer.op_type not in _LINEAR or readers[layer.output[0]] > 1:
                continue
            if layer.output[0] in self.outputs or len([o for o in node.output if o]) > 1:
                continue
            constants = [self.constants.get(name) for name in (*layer.input[1:], *node.input[1:])]
            if any(array is None for array in constants):
                continue
            if self._fuse(layer, node):
                self.nodes.remove(node)
                producers[layer.output[0]] = layer

    def _fuse(self, layer: Any, node: Any) -> bool:
        factor, summand = normalization(node, [self.constants[name] for name in node.input[1:]])
        weights = self.constants[layer.input[1]]
        bias = self.constants[layer.input[2]] if len(layer.input) > 2 else np.zeros_like(summand)
        if layer.op_type == "Gemm":
            if (attribute(layer, "alpha") or 1) != 1 or (attribute(layer, "beta") or 1) != 1:
                return False
            axis = 0 if attribute(layer, "transB") else 1
        elif layer.op_type == "ConvTranspose":
            if (attribute(layer, "group") or 1) != 1:
                return False
            axis = 1
        else:
            axis = 0
        along = [-1 if a == axis else 1 for a in range(weights.ndim)]
        name = layer.output[0]
        self.constants[f"{name}/weights"] = (weights * factor.reshape(along)).astype(weights.dtype)
        self.constants[f"{name}/bias"] = (bias * factor + summand).astype(weights.dtype)
        layer.input[:] = [layer.input[0], f"{name}/weights", f"{name}/bias"]
        layer.output[0] = node.output[0]
        return True

    def finish(self) -> Any:
        """Return the model, its free batch again without a number."""
        if self.is_free:
            self.infer_shapes()
            self._free_targets()
        self._drop_unused()
        model = self.proto()
        for value in (*model.graph.input, *model.graph.output):
            tensor = value.type.tensor_type
            if self.is_free and value.name in self.outputs:
                shape = self.shapes.get(value.name)
                if shape is not None:
                    value.CopyFrom(
                        helper.make_tensor_value_info(value.name, tensor.elem_type, shape)
                    )
            for dim in value.type.tensor_type.shape.dim[:1]:
                if self.is_free and dim.dim_value == self.batch:
                    dim.dim_param = "batch"
        inferred = shape_inference.infer_shapes(model, strict_mode=True)
        assert isinstance(inferred, onnx.ModelProto)
        del inferred.graph.value_info[:]
        return inferred

    def _free_targets(self) -> None:
        """Replace the number of the batch in the targets of Reshape nodes by -1."""
        for node in self.nodes:
            if not self._of_batch.intersection(node.input):
                continue
            label = f"node {node.name or node.output[0]} ({node.op_type})"
            shape = self.shapes.get(node.output[0])
            if node.op_type != "Reshape" or node.input[0] in self._of_batch or shape is None:
                raise ModelFileError(
                    f"{label} computes with the size of the batch; export the model with a fixed"
                    " batch"
                )
            sizes = [size if size % self.batch else -1 for size in shape]
            if sizes.count(-1) != 1:
                raise ModelFileError(
                    f"{label} has the batch in {sizes.count(-1)} axes; export the model with a"
                    " fixed batch"
                )
            node.input[1] = f"{node.output[0]}/target"
            self.constants[node.input[1]] = np.array(sizes, np.int64)


def normalization(node: Any, constants: Iterable[Array]) -> tuple[Array, Array]:
    """Return the factor and the summand of each channel that a BatchNormalization computes."""
    scale, bias, mean, variance = (array.astype(np.float64) for array in constants)
    epsilon = attribute(node, "epsilon")
    factor = scale / np.sqrt(variance + (1e-5 if epsilon is None else epsilon))
    return factor, bias - mean * factor


def _batch_is_free(value: Any) -> bool:
    dims = value.type.tensor_type.shape.dim
    return bool(dims) and not dims[0].HasField("dim_value")


def _constant_value(node: Any) -> Array:
    (value,) = node.attribute
    if value.name == "value":
        return np.asarray(numpy_helper.to_array(value.t))
    if value.name in ("value_float", "value_floats"):
        return np.array(helper.get_attribute_value(value), np.float32)
    if value.name in ("value_int", "value_ints"):
        return np.array(helper.get_attribute_value(value), np.int64)
    raise ModelFileError(f"node {node.name or node.output[0]} (Constant) holds a {value.name}")


def _inputs(node: Any) -> list[str]:
    """Return the values that a node reads, with those that the graphs inside it read."""
    names = list(node.input)
    for value in node.attribute:
        graphs = [value.g] if value.HasField("g") else list(value.graphs)
        names += [name for graph in graphs for inner in graph.node for name in _inputs(inner)]
        names += [output.name for graph in graphs for output in graph.output]
    return names
