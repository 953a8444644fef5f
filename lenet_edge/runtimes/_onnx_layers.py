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
from typing import Any

import numpy as np

from lenet_edge.artifacts.embedded import fields
from lenet_edge.runtimes._layer_probe import (
    CutProbe,
    LayerProbe,
    LayerStep,
    ProfilerProbe,
    check_cut_size,
)
from lenet_edge.support.temporary import temporary_folder
from lenet_edge.target import Array

# Source: onnx.proto.
_MODEL_GRAPH, _GRAPH_NODE, _GRAPH_INPUT, _GRAPH_OUTPUT, _VALUE_NAME = 7, 1, 11, 12, 1
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_TYPE = 1, 2, 3, 4
# Endings that ONNX Runtime gives to the nodes and values that it makes.
_MADE = re.compile(r"(_token_\d+|_nchwc)$")
Opener = Callable[[Path, Any], Any]


class OnnxGraph:
    """Graph of an .onnx file, as far as a cut needs it.

    Attributes:
        nodes: name, type, inputs and outputs of each node.
        inputs: the names of the inputs.
        outputs: the names of the outputs.
    """

    def __init__(self, content: bytes) -> None:
        self._parts = [(number, raw) for number, _, raw in fields(memoryview(content))]
        graph = next(c for n, c, _ in fields(memoryview(content)) if n == _MODEL_GRAPH and c)
        self._graph = [(number, raw) for number, _, raw in fields(graph)]
        found = [(number, part) for number, part, _ in fields(graph) if part is not None]
        self.nodes = [_node(part) for number, part in found if number == _GRAPH_NODE]
        self.inputs, self.outputs = (
            [
                next(bytes(t).decode() for n, t, _ in fields(part) if n == _VALUE_NAME and t)
                for number, part in found
                if number == side
            ]
            for side in (_GRAPH_INPUT, _GRAPH_OUTPUT)
        )

    def live(self, kept: int) -> list[str]:
        """Return the values that the first nodes compute, and that others or the caller read."""
        if not kept:
            return self.inputs[:1]
        computed = {value for node in self.nodes[:kept] for value in node[3] if value}
        read = {*self.outputs, *(value for node in self.nodes[kept:] for value in node[2])}
        return sorted(computed & read)

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
    return {value: name or value for name, _, _, outputs in graph.nodes for value in outputs}


def _node(part: memoryview) -> tuple[str, str, list[str], list[str]]:
    texts: dict[int, list[str]] = {}
    for number, content, _ in fields(part):
        if content is not None and number <= _NODE_TYPE:
            texts.setdefault(number, []).append(bytes(content).decode())
    name, kind = (texts.get(number, [""])[0] for number in (_NODE_NAME, _NODE_TYPE))
    return name, kind, texts.get(_NODE_INPUT, []), texts.get(_NODE_OUTPUT, [])


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def match_nodes(optimized: OnnxGraph, original: OnnxGraph) -> list[LayerStep]:
    """Return a step for each optimized node, with the nodes of the file that it computes.

    A node that keeps a value's name computes the node of that value, and all nodes of the file
    between this value and the inputs of the optimized node.
    """
    producer = {value: node for node in original.nodes for value in node[3] if value}
    names = {node[0]: node for node in original.nodes if node[0]}
    # The value of the file that each value of the optimized graph stands for.
    stands_for: dict[str, str] = {value: value for value in producer}
    done: set[int] = set()
    steps = []
    for name, kind, inputs, outputs in optimized.nodes:
        end = next((value for value in outputs if value in producer), None)
        if end is None:  # the name is that of a node or of a value of the file
            known = _MADE.sub("", _MADE.sub("", name))
            own = names.get(known)
            named = next((value for value in own[3] if value), None) if own else None
            end = named or (known if known in producer else None)
        group: list[tuple[str, str, list[str], list[str]]] = []
        borders = {stands_for.get(value, value) for value in inputs}
        waiting = [end] if end else []
        while waiting:
            node = producer.get(waiting.pop())
            if node is None or id(node) in done:
                continue
            done.add(id(node))
            group.append(node)
            waiting += [value for value in node[2] if value not in borders]
        if end:
            stands_for.update(dict.fromkeys(outputs, end))
        # DequantizeLinear nodes of weights belong to the group, and are no layers.
        order = {id(node): place for place, node in enumerate(original.nodes)}
        group.sort(key=lambda node: order[id(node)])
        steps.append(
            LayerStep(name or kind, kind, tuple(node[0] or node[3][0] for node in group),
                      end if group else None)
        )  # fmt: skip
    return steps


class OnnxProfiler(ProfilerProbe):
    """ONNX Runtime's own profiler.

    Args:
        open_session: opens the file with session options.
        path: the file.
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
        self._open, self._options, self._feed, self._folder = open_session, options, feed, folder

    def sample(self, calls: int) -> list[float]:
        """Return the mean seconds of each node."""
        self._options.enable_profiling = True
        self._options.profile_file_prefix = str(self._folder / "profile")
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
