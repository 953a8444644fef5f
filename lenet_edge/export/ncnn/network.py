"""A network of ncnn layers under construction: layers, the shapes of the blobs, the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.ncnn_file import SHAPES, NcnnLayer

Weights = npt.NDArray[Any]
Shape = tuple[int, ...]
Params = dict[int, float | list[float]]
# The orders of a Permute by their numbers, for values of two and of three axes: the axes of the
# input in the order of the output. Source: ncnn's wiki, "operators".
ORDERS: dict[int, tuple[Shape, ...]] = {
    2: ((0, 1), (1, 0)),
    3: ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)),
}
# Marks before the weights of a matrix. Source: ncnn's modelbin.cpp. Other weights have no mark.
_MARKS = {"float32": 0, "float16": 0x01306B47, "int8": 0x000D4B38}


@dataclass
class WeightedLayer(NcnnLayer):
    """A layer with its weights.

    Attributes:
        matrix: the weights that may be float16 or int8, of shape (outputs, ...).
        vectors: the other weights, in the order of the file.
    """

    matrix: Weights | None = None
    vectors: list[Weights] = field(default_factory=list)


@dataclass
class Network:
    """Layers in the order in which they run.

    A blob has the axes of its ONNX value without the batch; images have their channels first.

    Attributes:
        shapes: the shape of each blob.
        values: the ONNX value whose numbers a blob holds, perhaps in another order.
        outputs: the blobs that are outputs of the model.
    """

    layers: list[WeightedLayer] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)

    def readers(self, blob: str) -> list[WeightedLayer]:
        """Return the layers that read a blob."""
        return [layer for layer in self.layers if blob in layer.inputs]

    def only_reader(self, layer: WeightedLayer) -> WeightedLayer | None:
        """Return the only reader of a layer's output; None for several, or an output."""
        (blob,) = layer.outputs
        readers = self.readers(blob)
        is_only = len(readers) == 1 and readers[0].inputs.count(blob) == 1
        return readers[0] if is_only and blob not in self.outputs else None

    def add(
        self,
        kind: str,
        inputs: Sequence[str],
        output: str,
        shape: Sequence[int],
        params: Params | None = None,
        matrix: Weights | None = None,
        vectors: Sequence[Weights] = (),
    ) -> None:
        """Append a layer with one output."""
        params = dict(params or {})
        self.shapes[output] = tuple(shape)
        self.layers.append(
            WeightedLayer(kind, "", list(inputs), [output], params, matrix, list(vectors))
        )

    def remove(self, layer: WeightedLayer) -> None:
        """Remove a layer of one input; its readers read the input instead."""
        (source,), (blob,) = layer.inputs, layer.outputs
        self.layers.remove(layer)
        for reader in self.layers:
            reader.inputs = [source if name == blob else name for name in reader.inputs]

    def finish(self) -> None:
        """Copy blobs with several readers, and name the layers."""
        layers: list[WeightedLayer] = []
        for layer in self.layers:
            layers.append(layer)
            for blob in list(layer.outputs):
                readers = [
                    (reader, at)
                    for reader in self.layers
                    for at, name in enumerate(reader.inputs)
                    if name == blob
                ]
                copies = len(readers) + (blob in self.outputs)
                if copies < 2:
                    continue
                # Each blob has one reader in ncnn. The output keeps its name.
                inner = f"{blob}/shared"
                names = [f"{blob}/{number}" for number in range(len(readers))]
                layer.outputs = [inner if name == blob else name for name in layer.outputs]
                for (reader, at), name in zip(readers, names, strict=True):
                    reader.inputs[at] = name
                names += [blob] if blob in self.outputs else []
                self.shapes |= dict.fromkeys([inner, *names], self.shapes[blob])
                layers.append(WeightedLayer("Split", "", [inner], names))
        for number, layer in enumerate(layers):
            layer.name = f"{layer.kind}_{number}"
            layer.params[SHAPES] = [
                size for blob in layer.outputs for size in _shape_numbers(self.shapes[blob])
            ]
        self.layers = layers

    def weights(self, precision: str) -> bytes:
        """Return the content of the .bin file.

        Args:
            precision: "float32" or "float16", of the matrices that are not int8.
        """
        parts: list[bytes] = []
        for layer in self.layers:
            if layer.matrix is not None:
                parts.append(_marked(layer.matrix, precision))
            parts += [vector.astype("<f4").tobytes() for vector in layer.vectors]
        return b"".join(parts)


def _marked(matrix: Weights, precision: str) -> bytes:
    kind = "int8" if matrix.dtype == np.int8 else precision
    values = matrix.astype(np.dtype(kind).newbyteorder("<")).tobytes()
    padding = b"\0" * (-len(values) % 4)
    return _MARKS[kind].to_bytes(4, "little") + values + padding


def size_params(shape: Shape) -> Params:
    """Return the parameters that state a shape: width, height, channels."""
    return dict(zip((0, 1, 2), reversed(shape), strict=False))


def _shape_numbers(shape: Shape) -> list[float]:
    sizes = list(reversed(shape))
    return [len(shape), *sizes, *[1] * (3 - len(shape))]
