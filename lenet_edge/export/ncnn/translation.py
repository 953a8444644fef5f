"""A translation of one ONNX graph to ncnn: the current node, and the network under construction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lenet_edge.errors import ModelFileError
from lenet_edge.export.ncnn.network import ORDERS, Network, Params, Shape, Weights, size_params
from lenet_edge.export.onnx_graph import Graph, attribute
from lenet_edge.support.printable import make_printable

_MAX_AXES = 3


class Translation:
    """The translation of one graph whose batch is fixed to 1."""

    def __init__(self, graph: Graph, file: str) -> None:
        self.graph, self.file = graph, file
        self.network = Network()
        self.names: dict[str, str] = {}  # of the blobs, by the names of the values
        self.node: Any = None

    def uncovered(self, why: str) -> ModelFileError:
        """Return the error about the current node."""
        kind, output = self.node.op_type, make_printable(self.node.output[0])
        return ModelFileError(
            f"{self.file}: operator {kind} ({output:.60}) is not covered by the ncnn format"
            f" ({why}); replace it, or choose another --format"
        )

    def blob(self, value: str) -> str:
        """Return the blob of a value: ncnn's names have no spaces."""
        if value not in self.names:
            name = "".join(c if c.isalnum() or c in "_./-" else "_" for c in value)[:200]
            taken = set(self.names.values())
            self.names[value] = name if name not in taken else f"{name}_{len(taken)}"
        return self.names[value]

    def shape(self, value: str) -> Shape:
        """Return the shape of a value without the batch.

        Raises:
            ModelFileError: it is unknown, or has axes that ncnn does not have.
        """
        shape = self.graph.shape(value)
        if shape is None or None in shape:
            raise self.uncovered(f"the shape of {make_printable(value):.60} is unknown")
        if not shape or shape[0] != 1:
            raise self.uncovered("it moves the batch from the first axis")
        if not 1 <= len(shape) - 1 <= _MAX_AXES:
            raise self.uncovered(f"a value of {len(shape)} axes")
        return tuple(size for size in shape[1:] if size is not None)

    def constant(self, number: int) -> Any:
        """Return an input that is a constant; None if the node has no such input.

        Raises:
            ModelFileError: it is computed.
        """
        if len(self.node.input) <= number or not self.node.input[number]:
            return None
        array = self.graph.array(self.node.input[number])
        if array is None:
            raise self.uncovered(f"its input {number} is computed")
        return array

    def setting(self, name: str, default: Any) -> Any:
        """Return an attribute of the current node."""
        value = attribute(self.node, name)
        return default if value is None else value.decode() if isinstance(value, bytes) else value

    def add(
        self,
        kind: str,
        params: Params | None = None,
        inputs: Sequence[str] | None = None,
        matrix: Weights | None = None,
        vectors: Sequence[Weights] = (),
        shape: Shape | None = None,
    ) -> None:
        """Append a layer that computes the output of the current node.

        Args:
            kind: the type of the layer.
            params: its parameters.
            inputs: the blobs that it reads; None for the first input of the node.
            matrix: the weights that may be quantized.
            vectors: the other weights.
            shape: the shape of its output if the node has another one. A Reshape follows.
        """
        (value,) = self.node.output
        output, own = self.blob(value), self.shape(value)
        inner = output if shape is None or shape == own else f"{output}/inner"
        read = [self.read(self.node.input[0])] if inputs is None else inputs
        self.network.add(kind, read, inner, shape or own, params, matrix, vectors)
        self.network.values |= {inner: value, output: value}
        if inner != output:
            self.reshape(inner, output, own)

    def read(self, value: str) -> str:
        """Return the blob of an input; a constant becomes a layer."""
        array = self.graph.array(value)
        if array is not None:
            blob = self.blob(value)
            if blob not in self.network.shapes:
                self.memory(blob, self.without_batch(array))
            return blob
        self.shape(value)
        return self.blob(value)

    def without_batch(self, array: Any) -> Any:
        """Return a constant without its first axis, which must be of size 1."""
        if array.ndim < 2 or array.shape[0] != 1 or array.ndim - 1 > _MAX_AXES:
            raise self.uncovered(f"a constant of shape {array.shape}")
        return array[0]

    def memory(self, blob: str, array: Any) -> None:
        """Append a layer that holds a constant."""
        values = self.floats(array)
        params = size_params(values.shape)
        self.network.add("MemoryData", [], blob, values.shape, params, vectors=[values])

    def reshape(self, source: str, output: str, shape: Shape) -> None:
        """Append a layer that keeps the order of the values."""
        self.network.add("Reshape", [source], output, shape, size_params(shape))
        self.network.values[output] = self.network.values[source]

    def floats(self, array: Any) -> Weights:
        """Return finite float32 weights."""
        values = np.asarray(array, np.float32)
        if not np.isfinite(values).all():
            raise self.uncovered("its weights are not finite")
        return values


def add_image(translation: Translation, value: str, is_first: bool) -> None:
    """Append the Input layer of a value; an image enters with its channels first.

    Args:
        translation: the translation.
        value: the input of the graph.
        is_first: whether the graph takes an image with its channels first.
    """
    shape, blob = translation.shape(value), translation.blob(value)
    is_moved = len(shape) == 3 and not is_first
    entered = (shape[2], *shape[:2]) if is_moved else shape
    network = translation.network
    network.add("Input", [], blob, entered, size_params(entered))
    network.values[blob] = value
    if is_moved:
        moved = f"{blob}/channels_last"
        network.add("Permute", [blob], moved, shape, {0: ORDERS[3].index((1, 2, 0))})
        translation.names[value], network.values[moved] = moved, value
