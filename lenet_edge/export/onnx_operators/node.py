"""Nodes of an ONNX graph, and the table of the functions that convert them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lenet_edge.export.onnx_graph import attribute
from lenet_edge.export.onnx_values import Value


class Unsupported(Exception):
    """A node that cannot be converted; the message completes "node X (Conv): ..."."""


class Node:
    """One node of an ONNX graph, with the values of its inputs."""

    def __init__(self, proto: Any, inputs: Sequence[Value | None], opset: int) -> None:
        self.proto, self.inputs, self.opset = proto, inputs, opset
        self.kind: str = proto.op_type

    @property
    def x(self) -> Value:
        """The first input."""
        return self.input(0)

    def input(self, index: int) -> Value:
        """Return an input that must exist."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None:
            raise Unsupported(f"it has no input {index}")
        return value

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute; `default` if the node does not state it."""
        value = attribute(self.proto, name)
        value = value.decode() if isinstance(value, bytes) else value
        return default if value is None else value

    def constant(self, index: int, default: Any = None) -> Any:
        """Return a constant input as a NumPy array; `default` if it is missing."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None:
            return default
        if not value.is_constant:
            raise Unsupported(f"its input {index} is not constant")
        return value.plain().tensor

    def numbers(self, name: str, index: int) -> list[int] | None:
        """Return integers that newer opsets have as an input and older ones as an attribute."""
        array = self.constant(index)
        if array is not None:
            return [int(number) for number in np.atleast_1d(array)]
        value = self.attribute(name)
        return None if value is None else list(np.atleast_1d(value))


Result = Value | list[Value]
# The function of each operator; the modules of this folder fill it.
OPERATORS: dict[str, Callable[[Node], Result]] = {}


def converts(*kinds: str) -> Callable[[Callable[[Node], Result]], Callable[[Node], Result]]:
    """Register a function as the conversion of operators."""

    def register(function: Callable[[Node], Result]) -> Callable[[Node], Result]:
        OPERATORS.update(dict.fromkeys(kinds, function))
        return function

    return register
