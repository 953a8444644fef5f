"""Clean an ONNX graph: the same numbers from fewer nodes.

tf2onnx turns channels-last layers into ONNX's channels-first ones and leaves a Transpose where it
must go back; what it writes as MatMul and Add is one Gemm; its names count up with each
conversion. None of the libraries tried (onnxslim, onnxoptimizer) removes that Transpose.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import onnx  # isort: skip
from onnx import helper, numpy_helper  # isort: skip


def clean(model: Any) -> Any:
    """Return an `onnx.ModelProto` that answers as `model` does, simplified and named anew.

    The input becomes ``image`` and the output ``logits``.

    Rewrites: Transpose + Reshape to (-1, n) + MatMul becomes Reshape + MatMul with the rows of the
    weights permuted; MatMul + Add becomes Gemm; MaxPool + Relu becomes Relu + MaxPool (the same
    numbers, and runtimes fuse the Relu into the convolution before it). What fits no rewrite stays
    as it is. Nodes are named by operator and position, so that equal models give equal bytes.

    Args:
        model: with one input and one output.
    """
    graph = Graph(model)
    for rewrite in (_drop_identity, _drop_transpose, _pool_last, _gemm):
        while rewrite(graph):
            pass
    return graph.finish()


class Graph:
    """The nodes of a model, with who makes and who takes each value."""

    def __init__(self, model: Any) -> None:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
        self.model = model
        self.constants = {one.name: one for one in model.graph.initializer}
        self.nodes = self._in_order(model.graph)
        self.outputs = {value.name for value in model.graph.output}
        self._shapes = {
            value.name: tuple(
                size.dim_value if size.HasField("dim_value") else None
                for size in value.type.tensor_type.shape.dim
            )
            for value in (*inferred.value_info, *inferred.input, *inferred.output)
            if value.type.tensor_type.HasField("shape")
        }

    def _in_order(self, graph: Any) -> list[Any]:
        """Return the nodes, each after those it needs; the float16 tool appends its Casts."""
        known = {"", *self.constants, *(value.name for value in graph.input)}
        waiting, ordered = list(graph.node), []
        while waiting:
            node = next(node for node in waiting if known.issuperset(node.input))
            waiting.remove(node)
            ordered.append(node)
            known.update(node.output)
        return ordered

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        """Return the shape of a value, None where it is not known."""
        if name in self.constants:
            return tuple(self.constants[name].dims)
        return self._shapes.get(name)

    def array(self, name: str) -> Any:
        """Return a constant as a NumPy array, None for anything else."""
        constant = self.constants.get(name)
        return None if constant is None else numpy_helper.to_array(constant)

    def add_constant(self, name: str, array: Any) -> None:
        """Add an initializer, or replace the one of this name."""
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)

    def only_consumer(self, node: Any) -> Any:
        """Return the one node that takes a node's output, None if there are more or it leaves."""
        taken_by = [one for one in self.nodes for name in one.input if name == node.output[0]]
        alone = len(taken_by) == 1 and node.output[0] not in self.outputs
        return taken_by[0] if alone else None

    def pairs(self, first: str, second: str) -> list[tuple[Any, Any]]:
        """Return each node of operator `first` with its only consumer, of operator `second`."""
        found = []
        for node in self.nodes:
            if node.op_type == first:
                consumer = self.only_consumer(node)
                if consumer is not None and consumer.op_type == second:
                    found.append((node, consumer))
        return found

    def finish(self) -> Any:
        """Return the model of these nodes: used constants only, named by operator and position."""
        (image,), (logits,) = self.model.graph.input, self.model.graph.output
        names = {"": "", image.name: "image", logits.name: "logits"}
        image.name, logits.name = "image", "logits"
        used = []
        for position, node in enumerate(self.nodes):
            node.name = f"{node.op_type}_{position}"
            for place, name in enumerate(node.input):
                if name in self.constants and name not in names:
                    names[name] = f"{node.name}_{place}"
                    used.append(name)
            for place, name in enumerate(node.output):
                names.setdefault(name, node.name + (f"_out{place}" if place else ""))
            for side in (node.input, node.output):
                renamed = [names[name] for name in side]
                del side[:]
                side.extend(renamed)
        constants = []
        for name in used:
            constant = self.constants[name]
            constant.name = names[name]
            constants.append(constant)
        graph = helper.make_graph(self.nodes, "model", [image], [logits], constants)
        domains = {node.domain for node in self.nodes}
        opsets = [one for one in self.model.opset_import if one.domain in domains]
        return helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=self.model.ir_version,
            producer_name=self.model.producer_name,
            producer_version=self.model.producer_version,
        )


def _drop_identity(graph: Graph) -> bool:
    for node in graph.nodes:
        if node.op_type == "Identity" and node.output[0] not in graph.outputs:
            for other in graph.nodes:
                for place, name in enumerate(other.input):
                    if name == node.output[0]:
                        other.input[place] = node.input[0]
            graph.nodes.remove(node)
            return True
    return False


def _drop_transpose(graph: Graph) -> bool:
    for transpose, reshape in graph.pairs("Transpose", "Reshape"):
        matmul = graph.only_consumer(reshape)
        target = graph.array(reshape.input[1])
        if matmul is None or matmul.op_type not in ("MatMul", "Gemm"):
            continue
        if matmul.input[0] != reshape.output[0]:
            continue
        if attribute(matmul, "transA") or attribute(matmul, "transB"):
            continue
        weights = graph.array(matmul.input[1])
        sizes = graph.shape(transpose.input[0])
        perm = attribute(transpose, "perm")
        if weights is None or sizes is None or not perm or perm[0] != 0 or None in sizes[1:]:
            continue
        features = math.prod(size for size in sizes[1:] if size is not None)
        if target is None or target.tolist()[1:] != [features] or weights.ndim != 2:
            continue
        # The rows come in the transposed order; put them into the order of Transpose's input.
        moved = weights.reshape(*(sizes[axis] for axis in perm[1:]), -1)
        back = [list(perm[1:]).index(axis) for axis in range(1, len(perm))]
        name = f"{matmul.input[1]}/permuted"  # the old one may have other users
        graph.add_constant(name, moved.transpose(*back, len(perm) - 1).reshape(weights.shape))
        matmul.input[1] = name
        reshape.input[0] = transpose.input[0]
        graph.nodes.remove(transpose)
        return True
    return False


def _pool_last(graph: Graph) -> bool:
    makers = {node.output[0]: node for node in graph.nodes}
    for pool, relu in graph.pairs("MaxPool", "Relu"):
        before = makers.get(pool.input[0])
        if before is None or before.op_type != "Conv" or graph.only_consumer(before) is not pool:
            continue
        # They trade places and the values between them keep their order.
        first, last = relu.output[0], pool.output[0]
        relu.input[0], relu.output[0] = pool.input[0], last
        pool.input[0], pool.output[0] = last, first
        at = graph.nodes.index(pool)
        graph.nodes.remove(relu)
        graph.nodes.insert(at, relu)
        return True
    return False


def _gemm(graph: Graph) -> bool:
    for matmul, add in graph.pairs("MatMul", "Add"):
        values = graph.shape(matmul.input[0])
        weights = graph.shape(matmul.input[1])
        place = 1 - list(add.input).index(matmul.output[0])
        bias = graph.array(add.input[place])
        if values is None or weights is None or len(values) != 2 or len(weights) != 2:
            continue
        if bias is None or bias.ndim != 1:
            continue
        gemm = helper.make_node("Gemm", [*matmul.input, add.input[place]], [add.output[0]])
        graph.nodes[graph.nodes.index(add)] = gemm
        graph.nodes.remove(matmul)
        return True
    return False


def attribute(node: Any, name: str) -> Any:
    """Return an attribute of a node, None where it has none of this name."""
    for one in node.attribute:
        if one.name == name:
            return helper.get_attribute_value(one)
    return None
