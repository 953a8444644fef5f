"""The graphs of a .tflite file: inputs, outputs, operators, parameters and MACs."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.errors import LenetEdgeError
from lenet_edge.inspection.graph import (
    GraphTensor,
    ModelGraph,
    Signature,
    Subgraph,
    loop_phrase,
    phrases,
)
from lenet_edge.inspection.layer import Layer, total
from lenet_edge.inspection.tflite_file import (
    TfliteFile,
    TfliteGraph,
    TfliteOperator,
    TfliteTensor,
    constants,
    read_file,
)
from lenet_edge.runtimes._tflite import plain_interpreter
from lenet_edge.runtimes._tflite_operators import BIASES, STATES, count_macs

# Operators that run their subgraph once. The others run theirs an unknown number of times.
_CALLED_ONCE = ("CALL", "STABLEHLO_COMPOSITE")
_WEIGHT_TYPES = ("float", "bfloat", "int2", "int4", "uint4", "int8", "uint8", "int16")


def read(path: str) -> tuple[Layer, ...]:
    """Return the operators of the main graph, except those that only dequantize weights."""
    return read_graph(Path(path)).layers


def read_graph(path: Path) -> ModelGraph:
    """Read a .tflite file; no runtime has to be installed.

    Raises:
        ModelFileError: the file is damaged.
    """
    file = read_file(path)
    main = file.graphs[0]
    shapes = _allocated_shapes(path, main) if _has_free_sizes(main) else {}
    reader = _TfliteCounter(file, shapes)
    layers = reader.layers(0)
    callers: dict[int, list[str]] = {}
    for graph in file.graphs:
        for operator in graph.operators:
            label = f"{operator.kind} {_name_of(graph, operator)}".strip()
            for role, number in operator.calls.items():
                callers.setdefault(number, []).append(f"{label}: {role}")
    for signature in file.signatures:
        if signature.graph:
            callers.setdefault(signature.graph, []).append(f"signature {signature.name}")
    return ModelGraph(
        inputs=tuple(_describe(main, number) for number in main.inputs),
        outputs=tuple(_describe(main, number) for number in main.outputs),
        layers=layers,
        subgraphs=tuple(
            Subgraph(graph.name, tuple(callers.get(number, ())), reader.layers(number))
            for number, graph in enumerate(file.graphs)
            if number
        ),
        operators=dict(
            Counter(operator.kind for graph in file.graphs for operator in graph.operators)
        ),
        not_counted=phrases(reader.not_counted),
        notes=tuple(_notes(file)),
        signatures=tuple(
            Signature(
                entry.name, file.graphs[entry.graph].name, tuple(entry.inputs), tuple(entry.outputs)
            )
            for entry in file.signatures
        ),
    )


def _has_free_sizes(graph: TfliteGraph) -> bool:
    return any(None in (graph.tensors[number].free_shape or (None,)) for number in graph.inputs)


def _allocated_shapes(path: Path, graph: TfliteGraph) -> dict[int, Any]:
    """Return the shapes that an interpreter gives to the tensors of the main graph.

    The file has 1 for a free size, also where an operator computes another size from it.

    Returns:
        Nothing if no interpreter is installed or none opens the file.
    """
    # Interpreters raise several types for files that they cannot open.
    with contextlib.suppress(LenetEdgeError, RuntimeError, ValueError, SystemError):
        details = plain_interpreter(str(path)).get_tensor_details()
        shapes = {tensor["index"]: tensor["shape"] for tensor in details}
        return {number: shapes[number] for number in range(len(graph.tensors)) if number in shapes}
    return {}


def _describe(graph: TfliteGraph, number: int) -> GraphTensor:
    tensor = graph.tensors[number]
    is_quantized = len(tensor.scales) == 1 and tensor.scales[0] != 0
    return GraphTensor(
        name=tensor.name,
        dtype=tensor.dtype,
        shape=tensor.free_shape,
        scale=tensor.scales[0] if is_quantized else None,
        zero_point=(tensor.zero_points or (0,))[0] if is_quantized else None,
    )


def _name_of(graph: TfliteGraph, operator: TfliteOperator) -> str:
    """Return the name of an operator: that of its first output."""
    numbers = [number for number in operator.outputs if number >= 0]
    return graph.tensors[numbers[0]].name.split(";")[0] if numbers else ""


def _notes(file: TfliteFile) -> list[str]:
    operators = [operator for graph in file.graphs for operator in graph.operators]
    notes = []
    custom = sorted({operator.kind for operator in operators if operator.is_custom})
    if custom:
        notes.append(f"custom operators, which a runtime needs in addition: {', '.join(custom)}")
    variables = sum(operator.kind == "VAR_HANDLE" for operator in operators)
    variables += sum(tensor.is_variable for graph in file.graphs for tensor in graph.tensors)
    if variables:
        notes.append(f"variables that keep a state between inferences: {variables}")
    return notes


class _TfliteCounter:
    """Reader of the operators of each graph; it counts each constant once."""

    def __init__(self, file: TfliteFile, shapes: dict[int, Any]) -> None:
        self._file = file
        self._shapes = shapes  # of the main graph
        self._counted: set[int] = set()  # buffers of the graphs that have been read
        self.not_counted: Counter[str] = Counter()
        self._runs: dict[int, int | None] = {}  # MACs of one run of each subgraph
        main = file.graphs[0]
        ends = [main.tensors[number] for number in (*main.inputs, *main.outputs)]
        # The first size is a batch if all inputs and outputs of more than one axis have it.
        sizes = {tensor.shape[0] for tensor in ends if len(tensor.shape) > 1}
        self._batch_size = max(1, sizes.pop()) if len(sizes) == 1 else 1

    def layers(self, number: int) -> tuple[Layer, ...]:
        """Return the operators of a graph, except those that only dequantize weights."""
        graph = self._file.graphs[number]
        stored = set(constants(graph))
        origin: dict[int, int] = {}  # float16 weights reach their operator through a DEQUANTIZE
        here: set[int] = set()  # constants that this graph has counted
        layers = []
        for operator in graph.operators:
            found = [i for i in operator.inputs if i in stored or i in origin]
            if operator.kind in ("DEQUANTIZE", "DENSIFY") and found and operator.outputs:
                origin[operator.outputs[0]] = origin.get(found[0], found[0])
                continue
            parameters = size = 0
            for i in self._weights(graph, operator, found):
                source = origin.get(i, i)
                tensor = graph.tensors[source]
                if source in here or tensor.buffer in self._counted:
                    continue
                here.add(source)
                parameters += math.prod(tensor.shape)
                size += tensor.num_bytes
            output = graph.tensors[operator.outputs[0]] if operator.outputs else None
            macs, reason = self._macs(number, operator)
            if macs is None and number == 0:
                self.not_counted[reason] += 1
            layers.append(
                Layer(
                    name=_name_of(graph, operator),
                    kind=operator.kind,
                    output_shape=output.free_shape if output else (),
                    parameters=parameters,
                    macs=macs,
                    dense=operator.kind == "FULLY_CONNECTED",
                    parameter_bytes=size,
                )
            )
        self._counted |= {graph.tensors[i].buffer for i in here}
        return tuple(layers)

    def _weights(self, graph: TfliteGraph, operator: TfliteOperator, found: list[int]) -> list[int]:
        """Return the constants among an operator's inputs that are parameters.

        int32 is a bias if the operator has weights. Otherwise it is a shape or an axis.
        """
        biases = {
            operator.inputs[at] for at in BIASES.get(operator.kind, ()) if at < len(operator.inputs)
        }
        states = {
            operator.inputs[at] for at in STATES.get(operator.kind, ()) if at < len(operator.inputs)
        }
        if operator.kind in ("WHILE", "STABLEHLO_WHILE"):
            states = set(operator.inputs) - self._unchanged(operator)
        return [
            i
            for i in dict.fromkeys(found)
            if i not in states and (i in biases or graph.tensors[i].dtype.startswith(_WEIGHT_TYPES))
        ]

    def _unchanged(self, loop: TfliteOperator) -> set[int]:
        """Return the inputs of a loop that its body does not change: weights, and no states."""
        number = loop.calls.get("body", -1)
        if not 0 <= number < len(self._file.graphs):
            return set()
        body = self._file.graphs[number]
        ends = zip(loop.inputs, body.inputs, body.outputs, strict=False)
        return {outer for outer, before, after in ends if before == after}

    def _macs(self, number: int, operator: TfliteOperator) -> tuple[int | None, str]:
        """Return the MACs of an operator for one image, or None and the reason."""
        graph = self._file.graphs[number]
        name, kind = _name_of(graph, operator), operator.kind
        if operator.is_custom:
            return None, f"custom operator {kind}"
        if kind == "CALL_ONCE":  # it runs before the first inference
            return 0, ""
        if operator.calls:
            runs = {role: self._run(at) for role, at in operator.calls.items()}
            if not any(runs.values()) and None not in runs.values():
                return 0, ""
            if kind in _CALLED_ONCE:
                return runs["graph"], f"{kind} {name}"
            return None, loop_phrase(kind, name, runs)
        tensors = {
            i: {"shape": self._shape(number, i)} for i in (*operator.inputs, *operator.outputs)
        }
        facts = {"op_name": kind, "inputs": operator.inputs, "outputs": operator.outputs}
        try:
            macs = count_macs(facts, tensors, self._batch_size)
        except (IndexError, ZeroDivisionError, ValueError):
            return None, f"{kind} with shapes that do not fit"
        if macs and any(map(self._is_free, [graph.tensors[i] for i in self._data(operator)])):
            return None, f"{kind} of a free size"
        return macs, kind

    @staticmethod
    def _data(operator: TfliteOperator) -> list[int]:
        ends = (*operator.inputs[:1], *operator.outputs[:1])
        return [number for number in ends if number >= 0]

    @staticmethod
    def _is_free(tensor: TfliteTensor) -> bool:
        return tensor.free_shape is None or None in tensor.free_shape[1:]

    def _shape(self, number: int, tensor: int) -> Any:
        if number == 0 and tensor in self._shapes:
            return self._shapes[tensor]
        return np.array(self._file.graphs[number].tensors[tensor].shape, int)

    def _run(self, number: int) -> int | None:
        """Return the MACs of one run of a subgraph; None for one that runs itself."""
        if number not in self._runs and 0 <= number < len(self._file.graphs):
            self._runs[number] = None  # until it is known
            operators = self._file.graphs[number].operators
            self._runs[number] = total(self._macs(number, operator)[0] for operator in operators)
        return self._runs.get(number)
