"""Simplification of ONNX graphs: fewer nodes, the same numbers.

tf2onnx turns channels-last layers into channels-first layers, and leaves a Transpose where the
layout changes back. It writes MatMul and Add where one Gemm suffices. Its names change with each
conversion. onnxslim and onnxoptimizer do not remove the Transpose.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from typing import Any

import numpy as np

import onnx  # isort: skip
from onnx import helper, numpy_helper  # isort: skip


def clean(model: Any) -> Any:
    """Return a simplified `onnx.ModelProto` that computes the same numbers.

    One input becomes ``image`` and one output ``logits``. Nodes are named by operator and
    position, so that equal models give equal bytes. The rewrites are:

    - Transpose + Reshape to (-1, n) + MatMul becomes Reshape + MatMul with permuted weight rows;
    - Conv + Mul or Add of one constant for each channel becomes Conv: tf2onnx leaves the BatchNorm
      of depthwise convolutions in this form;
    - MatMul + Add becomes Gemm;
    - MaxPool + Relu becomes Relu + MaxPool: runtimes fuse the Relu into the convolution before it.

    Args:
        model: an `onnx.ModelProto`.
    """
    graph = Graph(model)
    for rewrite in (_drop_identity, _drop_transpose, _fold_scale, _pool_last, _gemm):
        while rewrite(graph):
            pass
    return graph.finish()


class Graph:
    """The nodes of a model, with the producer and the consumers of each value."""

    def __init__(self, model: Any) -> None:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
        self.model = model
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
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
        """Return the nodes in topological order; the float16 tool appends its Casts at the end."""
        known = {"", *self.constants, *(value.name for value in graph.input)}
        missing = [set(node.input) - known for node in graph.node]
        waiting: dict[str, list[int]] = {}
        for position, names in enumerate(missing):
            for name in names:
                waiting.setdefault(name, []).append(position)
        ready = [position for position, names in enumerate(missing) if not names]
        ordered = []
        while ready:  # a heap: the first node in the file whose inputs are known is next
            node = graph.node[heapq.heappop(ready)]
            ordered.append(node)
            for name in node.output:
                for position in waiting.pop(name, ()):
                    missing[position].discard(name)
                    if not missing[position]:
                        heapq.heappush(ready, position)
        assert len(ordered) == len(missing), "the nodes form a cycle"
        return ordered

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        """Return the shape of a value, None if it is unknown."""
        if name in self.constants:
            return tuple(self.constants[name].dims)
        return self._shapes.get(name)

    def array(self, name: str) -> Any:
        """Return a constant as a NumPy array, None for other values."""
        constant = self.constants.get(name)
        return None if constant is None else numpy_helper.to_array(constant)

    def add_constant(self, name: str, array: Any) -> None:
        """Add an initializer; it replaces one with the same name."""
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)

    def only_consumer(self, node: Any) -> Any:
        """Return the only consumer of a node's output.

        None if there are several consumers, or the output is an output of the model.
        """
        return self._only_consumer(node, self._consumers())

    def _consumers(self) -> dict[str, list[Any]]:
        """Return the nodes that take each value, a node once for each input."""
        consumers: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in node.input:
                consumers.setdefault(name, []).append(node)
        return consumers

    def _only_consumer(self, node: Any, consumers: dict[str, list[Any]]) -> Any:
        found = consumers.get(node.output[0], [])
        return found[0] if len(found) == 1 and node.output[0] not in self.outputs else None

    def pairs(self, first: str, second: str) -> list[tuple[Any, Any]]:
        """Return each node of operator `first` with its only consumer, of operator `second`."""
        pairs, consumers = [], self._consumers()
        for node in self.nodes:
            if node.op_type == first:
                consumer = self._only_consumer(node, consumers)
                if consumer is not None and consumer.op_type == second:
                    pairs.append((node, consumer))
        return pairs

    def finish(self) -> Any:
        """Return the model, without unused constants, its nodes named by operator and position."""
        inputs, outputs = self.model.graph.input, self.model.graph.output
        names = {"": "", **{value.name: value.name for value in (*inputs, *outputs)}}
        if len(inputs) == len(outputs) == 1:
            names |= {inputs[0].name: "image", outputs[0].name: "logits"}
            inputs[0].name, outputs[0].name = "image", "logits"
        counts, used = Counter(names.values()), []
        for position, node in enumerate(self.nodes):
            node.name = f"{node.op_type}_{position}"
            for index, name in enumerate(node.input):
                if name in self.constants and name not in names:
                    names[name] = f"{node.name}_{index}"
                    counts[names[name]] += 1
                    used.append(name)
            for index, name in enumerate(node.output):
                if name not in names:
                    names[name] = node.name + (f"_out{index}" if index else "")
                    counts[names[name]] += 1
                while counts[names[name]] > 1:  # an input or output has this name
                    counts[names[name]] -= 1
                    names[name] += "_"
                    counts[names[name]] += 1
            for side in (node.input, node.output):
                renamed = [names[name] for name in side]
                del side[:]
                side.extend(renamed)
        constants = []
        for name in used:
            constant = self.constants[name]
            constant.name = names[name]
            constants.append(constant)
        graph = helper.make_graph(self.nodes, "model", inputs, outputs, constants)
        domains = {node.domain for node in self.nodes}
        opsets = [opset for opset in self.model.opset_import if opset.domain in domains]
        return helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=self.model.ir_version,
            producer_name=self.model.producer_name,
            producer_version=self.model.producer_version,
        )


def _drop_identity(graph: Graph) -> bool:
    sources: dict[str, str] = {}
    kept = []
    for node in graph.nodes:
        for index, name in enumerate(node.input):
            if name in sources:
                node.input[index] = sources[name]
        if node.op_type == "Identity" and node.output[0] not in graph.outputs:
            sources[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    graph.nodes = kept
    return bool(sources)


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
        # The rows are in the transposed order; put them into the order of Transpose's input.
        moved = weights.reshape(*(sizes[axis] for axis in perm[1:]), -1)
        back = [list(perm[1:]).index(axis) for axis in range(1, len(perm))]
        name = f"{matmul.input[1]}/permuted"  # the old constant may have other consumers
        graph.add_constant(name, moved.transpose(*back, len(perm) - 1).reshape(weights.shape))
        matmul.input[1] = name
        reshape.input[0] = transpose.input[0]
        graph.nodes.remove(transpose)
        return True
    return False


def _fold_scale(graph: Graph) -> bool:
    for kind in ("Mul", "Add"):
        for conv, node in graph.pairs("Conv", kind):
            values = graph.array(node.input[1 - list(node.input).index(conv.output[0])])
            weights = graph.array(conv.input[1])
            has_bias = len(conv.input) > 2
            bias = graph.array(conv.input[2]) if has_bias else np.float32(0)
            if values is None or weights is None or bias is None:
                continue
            per_channel = (len(weights), *[1] * (weights.ndim - 1))
            if values.shape != (1, *per_channel[:-1]):
                continue
            channels = values.reshape(per_channel[0])
            if kind == "Mul":
                weights, bias = weights * channels.reshape(per_channel), bias * channels
            else:
                bias = bias + channels
            names = [f"{node.output[0]}/{part}" for part in ("weights", "bias")]
            graph.add_constant(names[0], weights)
            graph.add_constant(names[1], np.broadcast_to(bias, channels.shape))
            conv.input[:] = [conv.input[0], *names]
            conv.output[0] = node.output[0]
            graph.nodes.remove(node)
            return True
    return False


def _pool_last(graph: Graph) -> bool:
    producers = {node.output[0]: node for node in graph.nodes}
    for pool, relu in graph.pairs("MaxPool", "Relu"):
        before = producers.get(pool.input[0])
        if before is None or before.op_type != "Conv" or graph.only_consumer(before) is not pool:
            continue
        # Swap the two nodes; both keep the order of the values.
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
        bias_index = 1 - list(add.input).index(matmul.output[0])
        bias = graph.array(add.input[bias_index])
        if values is None or weights is None or len(values) != 2 or len(weights) != 2:
            continue
        if bias is None or bias.ndim != 1:
            continue
        gemm = helper.make_node("Gemm", [*matmul.input, add.input[bias_index]], [add.output[0]])
        graph.nodes[graph.nodes.index(add)] = gemm
        graph.nodes.remove(matmul)
        return True
    return False


def attribute(node: Any, name: str) -> Any:
    """Return the value of a node's attribute, None if it has no attribute of this name."""
    for candidate in node.attribute:
        if candidate.name == name:
            return helper.get_attribute_value(candidate)
    return None
