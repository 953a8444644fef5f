"""Times of the nodes that ONNX Runtime executes: its profiler, and cuts of the optimized graph.

The profiler rounds to microseconds and slows small nodes. For these, the optimized graph is saved
and cut after each node.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lenet_edge.artifacts.embedded import encode_varint, fields, messages
from lenet_edge.runtimes._layer_probe import (
    CutProbe,
    LayerProbe,
    LayerStep,
    ProfilerProbe,
    check_cut_size,
    live_values,
)
from lenet_edge.support.temporary import temporary_folder
from lenet_edge.target import Array

# Source: onnx.proto.
_MODEL_GRAPH, _GRAPH_NODE, _GRAPH_INPUT, _GRAPH_OUTPUT, _VALUE_NAME = 7, 1, 11, 12, 1
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_TYPE = 1, 2, 3, 4
# Endings that ONNX Runtime gives to the nodes and values that it makes.
_MADE = re.compile(r"(_token_\d+|_nchwc)$")


class OnnxNode(NamedTuple):
    """Node of a graph; `outputs` leaves out those that the node omits."""

    name: str
    kind: str
    inputs: list[str]
    outputs: list[str]


class OnnxGraph:
    """Graph of an .onnx file, as far as a cut needs it.

    Attributes:
        nodes: the nodes.
        inputs: the names of the inputs.
        outputs: the names of the outputs.
    """

    def __init__(self, content: bytes) -> None:
        self._parts = [(number, raw) for number, _, raw in fields(memoryview(content))]
        graph = dict(messages(memoryview(content)))[_MODEL_GRAPH]
        self._graph = [(number, raw) for number, _, raw in fields(graph)]
        parts = list(messages(graph))
        self.nodes = [_node(part) for number, part in parts if number == _GRAPH_NODE]
        self.inputs, self.outputs = (
            [
                bytes(dict(messages(part))[_VALUE_NAME]).decode()
                for number, part in parts
                if number == side
            ]
            for side in (_GRAPH_INPUT, _GRAPH_OUTPUT)
        )

    def live(self, kept: int) -> list[str]:
        """Return the values that the first nodes compute, and that others or the caller read."""
        if not kept:
            return self.inputs[:1]
        return live_values([(n.inputs, n.outputs) for n in self.nodes], kept, self.outputs)

    def cut(self, kept: int) -> bytes:
        """Return the model with its first nodes only, whose live values are the outputs."""
        parts, seen = [], 0
        for number, raw in self._graph:
            if number == _GRAPH_NODE:
                seen += 1
                if seen > kept:
                    continue
            if number != _GRAPH_OUTPUT:
                parts.append(bytes(raw))
        parts += [
            _field(_GRAPH_OUTPUT, _field(_VALUE_NAME, name.encode())) for name in self.live(kept)
        ]
        graph = _field(_MODEL_GRAPH, b"".join(parts))
        return b"".join(graph if n == _MODEL_GRAPH else bytes(raw) for n, raw in self._parts)


def nodes_by_tensor(path: Path) -> dict[str, str]:
    """Return the name of the node of an .onnx file that computes each tensor."""
    graph = OnnxGraph(path.read_bytes())
    return {value: node.name or value for node in graph.nodes for value in node.outputs}


def _node(part: memoryview) -> OnnxNode:
    texts: dict[int, list[str]] = {}
    for number, content in messages(part):
        if number <= _NODE_TYPE:
            texts.setdefault(number, []).append(bytes(content).decode())
    name, kind = (texts.get(number, [""])[0] for number in (_NODE_NAME, _NODE_TYPE))
    outputs = [value for value in texts.get(_NODE_OUTPUT, []) if value]
    return OnnxNode(name, kind, texts.get(_NODE_INPUT, []), outputs)


def _field(number: int, content: bytes) -> bytes:
    return encode_varint(number << 3 | 2) + encode_varint(len(content)) + content


def match_nodes(optimized: OnnxGraph, original: OnnxGraph) -> list[LayerStep]:
    """Return a step for each optimized node, with the nodes of the file that it computes.

    A node that keeps a value's name computes the node of that value, and all nodes of the file
    between this value and the inputs of the optimized node.
    """
    producer = {value: node for node in original.nodes for value in node.outputs}
    names = {node.name: node for node in original.nodes if node.name}
    places = {id(node): place for place, node in enumerate(original.nodes)}
    # The value of the file that a value of another name in the optimized graph stands for.
    stands_for: dict[str, str] = {}
    done: set[int] = set()
    steps = []
    for name, kind, inputs, outputs in optimized.nodes:
        end = next((value for value in outputs if value in producer), None)
        if end is None:  # the name is that of a node or of a value of the file
            known = _MADE.sub("", _MADE.sub("", name))
            named = next(iter(names[known].outputs), None) if known in names else None
            end = named or (known if known in producer else None)
        group: list[OnnxNode] = []
        borders = {stands_for.get(value, value) for value in inputs}
        waiting = [end] if end else []
        while waiting:
            node = producer.get(waiting.pop())
            if node is None or id(node) in done:
                continue
            done.add(id(node))
            group.append(node)
            waiting += [value for value in node.inputs if value not in borders]
        if end:
            stands_for.update(dict.fromkeys(outputs, end))
        # DequantizeLinear nodes of weights belong to the group, and are no layers.
        group.sort(key=lambda node: places[id(node)])
        nodes = tuple(node.name or node.outputs[0] for node in group)
        steps.append(LayerStep(name or kind, kind, nodes, end if group else None))
    return steps


class OnnxProfiler(ProfilerProbe):
    """ONNX Runtime's own profiler.

    Args:
        open_session: opens the file with session options.
        options: session options, for this probe alone.
        feed: the inputs by name.
        folder: a folder for the profile.
        steps: the nodes of the optimized graph.
    """

    method = "profiler of ONNX Runtime"

    def __init__(
        self,
        open_session: Callable[[Any], Any],
        options: Any,
        feed: dict[str, Array],
        folder: Path,
        steps: Sequence[LayerStep],
    ) -> None:
        self.steps = tuple(steps)
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")
        self._open, self._options, self._feed = open_session, options, feed

    def sample(self, calls: int) -> list[float]:
        """Return the mean seconds of each node."""
        session = self._open(self._options)
        for _ in range(calls + 1):
            session.run(None, self._feed)
        path = Path(session.end_profiling())
        events = json.loads(path.read_text(encoding="utf-8"))
        path.unlink()
        times: dict[str, list[float]] = {}
        for event in events:
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                name = event["name"].removesuffix("_kernel_time")
                times.setdefault(name, []).append(event["dur"] / 1e6)
        # The first call allocates. A node may run several times in a call, such as in a loop.
        return [
            sum(each[len(each) // (calls + 1) :]) / calls
            for each in (times.get(step.name, []) for step in self.steps)
        ]


def onnx_probes(
    path: Path,
    open_session: Callable[[Path, Any], Any],
    make_options: Callable[[], Any],
    feed: dict[str, Array],
) -> Iterator[LayerProbe]:
    """Yield the profiler, and then the cuts of the optimized graph.

    Args:
        path: the .onnx file.
        open_session: opens a file with session options.
        make_options: returns new session options.
        feed: the inputs by name.
    """
    import onnxruntime

    with temporary_folder() as folder:
        optimized, options = folder / "optimized.onnx", make_options()
        options.optimized_model_filepath = str(optimized)
        open_session(path, options)
        graph = OnnxGraph(optimized.read_bytes())
        steps = match_nodes(graph, OnnxGraph(path.read_bytes()))
        yield OnnxProfiler(partial(open_session, path), make_options(), feed, folder, steps)
        check_cut_size(path.name, len(steps), optimized.stat().st_size)
        calls, arrays = [], []
        for kept in range(len(steps) + 1):
            options = make_options()
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            part = folder / "part.onnx"
            part.write_bytes(graph.cut(kept))
            call, outputs = _bound_call(open_session(part, options), feed)
            calls.append(call)
            arrays.append(outputs)
        yield CutProbe(steps, calls, (feed, arrays))


def _bound_call(session: Any, feed: dict[str, Array]) -> tuple[Callable[[], object], list[Array]]:
    """Return the call of a session whose inputs and outputs are arrays, and the output arrays."""
    import onnxruntime

    names = [value.name for value in session.get_inputs()]
    results = session.run(None, {name: feed[name] for name in names})
    binding = session.io_binding()
    for name in names:
        array = feed[name]
        binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
    arrays = [np.ascontiguousarray(result) for result in results]
    for value, array in zip(session.get_outputs(), arrays, strict=True):
        binding.bind_output(value.name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
    call = partial(session._sess.run_with_iobinding, binding._iobinding, onnxruntime.RunOptions())
    return call, arrays
