"""The exact GELU of PyTorch before opset 20: five nodes with an Erf, which TFLite does not have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx import helper  # isort: skip


def join_gelu(
    nodes: Sequence[Any], constants: Mapping[str, npt.NDArray[Any]], outputs: set[str]
) -> list[Any]:
    """Return the nodes of a graph, with a Gelu for each x * 0.5 * (1 + erf(x / sqrt(2))).

    Args:
        nodes: the nodes, in topological order.
        constants: the constants of the graph.
        outputs: the names of the outputs of the graph.
    """
    producers = {name: node for node in nodes for name in node.output}
    consumers: dict[str, list[Any]] = {}
    for node in nodes:
        for name in node.input:
            consumers.setdefault(name, []).append(node)

    def split(node: Any) -> tuple[str, float] | None:
        """Return the factor that is no constant, and the constant that multiplies it."""
        if node is None or node.op_type not in ("Mul", "Div", "Add") or len(node.input) != 2:
            return None
        for value, other in (node.input, reversed(node.input)):
            array = constants.get(other)
            if array is not None and array.size == 1 and value not in constants:
                if node.op_type == "Div" and other != node.input[1]:
                    return None
                return value, float(array.item())
        return None

    def next_node(node: Any, kind: str) -> Any:
        readers = consumers.get(node.output[0], [])
        is_only = len(readers) == 1 and node.output[0] not in outputs
        return readers[0] if is_only and readers[0].op_type == kind else None

    replaced: dict[str, Any] = {}
    dropped: set[str] = set()
    for erf in (node for node in nodes if node.op_type == "Erf" and node.input and node.output):
        scaled, plus = producers.get(erf.input[0]), next_node(erf, "Add")
        inside, one = split(scaled), split(plus)
        if (
            scaled is None
            or inside is None
            or scaled.op_type == "Add"
            or one is None
            or one[1] != 1
        ):
            continue
        x, factor = inside[0], 1 / inside[1] if scaled.op_type == "Div" else inside[1]
        if not np.isclose(factor, 0.5**0.5, rtol=1e-4):
            continue
        chain, factors, scale = [erf, plus], [], 1.0
        while len(chain) < 4 and (product := next_node(chain[-1], "Mul")) is not None:
            (other,) = [name for name in product.input if name != chain[-1].output[0]] or [""]
            half = producers.get(other)
            if other in constants and constants[other].size == 1:
                scale *= float(constants[other].item())
            elif half is not None and half.op_type == "Mul" and (part := split(half)):
                factors.append(part[0])
                scale *= part[1]
            else:
                factors.append(other)
            chain.append(product)
            if factors == [x] and scale == 0.5:
                last = chain[-1].output[0]
                name = chain[-1].name or last
                replaced[last] = helper.make_node("Gelu", [x], [last], name)
                dropped.update(node.output[0] for node in chain[:-1])
                break
    return [
        replaced.get(node.output[0], node) if node.output else node
        for node in nodes
        if not dropped.intersection(node.output)
    ]
