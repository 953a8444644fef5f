"""A whole model file: inputs, outputs, operators, and the subgraphs that control flow runs."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_edge.inspection.layer import Layer, total

# The size of one axis: a number, the name of a free size, or None for a free size without a name.
Size = int | str | None


@dataclass(frozen=True)
class GraphTensor:
    """An input or an output of a graph.

    Attributes:
        dtype: such as "float32", "string", "resource" or "sequence of float32".
        shape: None if the number of axes is free.
        scale: of a quantized tensor, as in `TensorSpec`.
        zero_point: of a quantized tensor.
    """

    name: str
    dtype: str
    shape: tuple[Size, ...] | None
    scale: float | None = None
    zero_point: int | None = None

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> GraphTensor:
        """Return the tensor whose fields a JSON object holds."""
        shape = facts["shape"]
        return cls(**{**facts, "shape": shape if shape is None else tuple(shape)})


@dataclass(frozen=True)
class Subgraph:
    """A graph inside a model that an operator runs, such as the body of a loop.

    Attributes:
        name: name of the graph.
        called_by: the operators that run it, each with its role, such as "WHILE lstm/while: body".
        layers: the operators, with the MACs of one run.
    """

    name: str
    called_by: tuple[str, ...]
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Signature:
    """A named entry of a .tflite file: a graph with names of its own for inputs and outputs."""

    name: str
    graph: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class ModelGraph:
    """A model file, as `inspect` shows it.

    Attributes:
        inputs: None if the reader of the format does not tell.
        outputs: None if the reader of the format does not tell.
        layers: the operators of the main graph.
        subgraphs: the other graphs of the file.
        operators: the number of operators of each kind, in all graphs.
        not_counted: the operators whose MACs are not counted, and why, each as a phrase.
        notes: other facts, such as custom operators, each as a phrase.
        signatures: named entries of the file.
    """

    inputs: tuple[GraphTensor, ...] | None
    outputs: tuple[GraphTensor, ...] | None
    layers: tuple[Layer, ...]
    subgraphs: tuple[Subgraph, ...] = ()
    operators: Mapping[str, int] = dataclasses.field(default_factory=dict)
    not_counted: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    signatures: tuple[Signature, ...] = ()

    @property
    def all_layers(self) -> tuple[Layer, ...]:
        """The operators of the main graph and of all subgraphs."""
        return (*self.layers, *(layer for graph in self.subgraphs for layer in graph.layers))

    @property
    def parameters(self) -> int | None:
        """The weights and biases of all graphs; None if some cannot be counted."""
        return total(layer.parameters for layer in self.all_layers)

    @property
    def parameter_bytes(self) -> int | None:
        """The bytes of these weights and biases; None if they are unknown."""
        return total(layer.parameter_bytes for layer in self.all_layers)

    @property
    def macs(self) -> int | None:
        """The MACs of the main graph for one image; None if some cannot be counted."""
        return total(layer.macs for layer in self.layers)

    @property
    def counted_macs(self) -> int:
        """The MACs of the operators that can be counted: a lower bound."""
        return sum(layer.macs or 0 for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> ModelGraph:
        """Return the graph that `to_json` wrote."""

        def tensors(side: str) -> tuple[GraphTensor, ...] | None:
            found = facts[side]
            return None if found is None else tuple(map(GraphTensor.from_json, found))

        return cls(
            inputs=tensors("inputs"),
            outputs=tensors("outputs"),
            layers=_layers(facts["layers"]),
            subgraphs=tuple(
                Subgraph(graph["name"], tuple(graph["called_by"]), _layers(graph["layers"]))
                for graph in facts["subgraphs"]
            ),
            operators=dict(facts["operators"]),
            not_counted=tuple(facts["not_counted"]),
            notes=tuple(facts["notes"]),
            signatures=tuple(
                Signature(entry["name"], entry["graph"], tuple(entry["inputs"]),
                          tuple(entry["outputs"]))
                for entry in facts["signatures"]
            ),
        )  # fmt: skip

    @classmethod
    def of_layers(cls, layers: tuple[Layer, ...]) -> ModelGraph:
        """Return a graph of which only the layers are known."""
        counts = Counter(layer.kind for layer in layers)
        kinds = dict.fromkeys(layer.kind for layer in layers if layer.macs is None)
        return cls(None, None, layers, operators=dict(counts), not_counted=tuple(kinds))


def _layers(rows: Any) -> tuple[Layer, ...]:
    return tuple(
        Layer(**{**row, "output_shape": shape if shape is None else tuple(shape)})
        for row in rows
        for shape in [row["output_shape"]]
    )


# A function that reads a whole model file. It raises `ModelFileError` for a damaged file, and
# `MissingPackageError` if the package that reads the format is not installed.
GraphReader = Callable[[Path], ModelGraph]


def phrases(not_counted: Mapping[str, int]) -> tuple[str, ...]:
    """Return the phrases for operators that are not counted, with the number of equal ones."""
    return tuple(
        phrase if count == 1 else f"{count} × {phrase}" for phrase, count in not_counted.items()
    )


def loop_phrase(kind: str, name: str, runs: Mapping[str, int | None]) -> str:
    """Return the phrase for an operator whose number of runs of its subgraphs is unknown.

    Args:
        kind: such as "WHILE".
        name: name of the operator.
        runs: the MACs of one run of each subgraph, by its role; None if unknown.
    """
    counts = [
        f"{role}: {'unknown' if macs is None else f'{macs:,}'}"
        for role, macs in runs.items()
        if macs != 0
    ]
    label = f"{kind} {name}".strip()
    return f"{label} (MACs of one run: {', '.join(counts)})" if counts else label
