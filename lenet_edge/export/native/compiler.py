"""Compiler from a .tflite file to a C file: graph, checks, passes, steps, text."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from lenet_edge.artifacts.artifact import TensorSpec
from lenet_edge.errors import ModelFileError
from lenet_edge.export.native import (
    coverage,
    lowering,
    passes,
    program,
    pruning,
    text,
    tflite_graph,
)
from lenet_edge.export.native.tflite_graph import Operator, Tensor


@dataclass(frozen=True)
class Compiled:
    """A C file, without the comment at its top.

    Attributes:
        name: the name of the C function.
        arena_bytes: memory for the tensors between the operators.
        inputs, outputs: the tensors, with a free batch.
        has_integers: whether a layer computes with integers.
        layers: a line about each layer.
    """

    source: str
    name: str
    arena_bytes: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    has_integers: bool = False
    layers: tuple[str, ...] = ()

    @property
    def stack_bytes(self) -> int:
        """The part of the memory that is on the stack: all of it, or nothing."""
        is_static = re.search(r"^static _Alignas\(64\) \w+ memory\[", self.source, re.MULTILINE)
        return 0 if is_static else self.arena_bytes

    def file(self, precision: str) -> bytes:
        """Return the C file: the code with a comment at its top, which contains the contract."""
        is_static = self.stack_bytes < self.arena_bytes
        top = text.top(
            self.name, precision, self.arena_bytes, self.contract(), is_static, self.layers
        )
        return f"{top}\n{self.source}".encode()

    def contract(self) -> dict[str, Any]:
        """Return the part of the contract that describes the tensors; a session needs no more."""
        return {
            side: [dataclasses.asdict(spec) for spec in specs]
            for side, specs in (("inputs", self.inputs), ("outputs", self.outputs))
        }


def compile_tflite(content: bytes, name: str, file_name: str) -> Compiled:
    """Return the C file of a .tflite file.

    Args:
        content: the .tflite file.
        name: the name of the C function.
        file_name: the name of the .tflite file, for messages.

    Raises:
        ModelFileError: the file is damaged, or the C files do not cover it.
    """
    graph = tflite_graph.read(content, file_name)
    try:
        passes.simplify(graph)
        coverage.check(graph, file_name)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # The options of an operator, or its constants, are not those of its kind.
        raise ModelFileError(f"{file_name} is damaged ({error}); make it again") from error
    layers = tuple(_layer_line(operator) for operator in graph.operators)
    passes.optimize(graph)
    pruning.prune(graph)
    source, arena_bytes = program.write(lowering.lower(graph), name)
    inputs, outputs = (
        tuple(_spec(tensor) for tensor in tensors) for tensors in (graph.inputs, graph.outputs)
    )
    has_integers = any(operator.output.dtype != "float32" for operator in graph.operators)
    return Compiled(source, name, arena_bytes, inputs, outputs, has_integers, layers)


def _layer_line(operator: Operator) -> str:
    output = operator.output
    constants = [tensor for tensor in operator.inputs[1:3] if tensor is not None]
    parameters = macs = 0
    if operator.kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        parameters = sum(tensor.size for tensor in constants)
        weights = operator.input(1)
        outputs = weights.shape[3 if operator.kind == "DEPTHWISE_CONV_2D" else 0]
        macs = output.size // outputs * weights.size // max(output.shape[0], 1)
    return text.layer_line(operator.kind, output.name, output.shape[1:], parameters, macs)


def _spec(tensor: Tensor) -> TensorSpec:
    # The first axis is the batch: the C function for batches computes any number of images.
    is_one = tensor.shape[:1] == (1,)
    shape = (None, *tensor.shape[1:]) if is_one else tensor.shape
    if tensor.dtype == "float32":
        return TensorSpec(tensor.name, shape, tensor.dtype)
    return TensorSpec(tensor.name, shape, tensor.dtype, tensor.scale, tensor.zero)
