"""Times of the nodes that OpenVINO executes: its counters, and cuts of the graph.

The counters round each call down to microseconds. For small nodes, the graph is cut after each
operator that OpenVINO executes as a node of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lenet_edge.runtimes._layer_probe import (
    CutProbe,
    LayerProbe,
    LayerStep,
    ProfilerProbe,
    check_cut_size,
)

# Nodes that compute nothing in a call.
_STATIC = ("Const", "Input", "Output")
_SPLIT = "/WithoutBiases"  # OpenVINO splits a convolution from its bias
# A compiled model, or a part of it, as a call with its request.
Compiler = Callable[[Any, bool], tuple[Any, Callable[[], object]]]


class CounterProbe(ProfilerProbe):
    """OpenVINO's counters.

    Args:
        steps: the executed nodes.
        keys: their names.
        request: a request of a model that was compiled with counters.
        infer: runs the request.
    """

    method = "counters of OpenVINO"

    def __init__(
        self,
        steps: Sequence[LayerStep],
        keys: Sequence[str],
        request: Any,
        infer: Callable[[], object],
    ) -> None:
        self.steps, self._keys = tuple(steps), keys
        self._request, self._infer = request, infer

    def sample(self, calls: int) -> list[float]:
        """Return the mean seconds of each node; OpenVINO averages over all calls so far."""
        for _ in range(calls):
            self._infer()
        times = {
            info.node_name: info.real_time.total_seconds() for info in self._request.profiling_info
        }
        return [times.get(key, 0.0) for key in self._keys]


def openvino_probes(
    model: Any, name: str, size_bytes: int, compile_part: Compiler, node_of: Mapping[str, str]
) -> Iterator[LayerProbe]:
    """Yield the counters, and then the cuts of the graph.

    Args:
        model: the `openvino.Model`, with the shapes of the call.
        name: the name of the file.
        size_bytes: the size of the file.
        compile_part: compiles a model, with counters or without, and returns its request and the
            call that runs it.
        node_of: the node of the file that computes each tensor; OpenVINO keeps only the tensor.
    """
    import openvino

    request, infer = compile_part(model, True)
    infer()
    operators = model.get_ordered_ops()
    places = {operator.get_friendly_name(): n for n, operator in enumerate(operators)}
    executed: list[tuple[str, str, list[int]]] = []
    for node in request.get_compiled_model().get_runtime_model().get_ordered_ops():
        facts = node.get_rt_info()
        kind = facts["layerType"].astype(str) if "layerType" in facts else ""
        if kind in _STATIC or not kind:
            continue
        fused = facts["originalLayersNames"].astype(str) if "originalLayersNames" in facts else ""
        numbers = sorted(places[each] for each in fused.split(",") if each in places)
        executed.append((node.get_friendly_name(), kind, numbers))
    steps, ends = [], []
    groups = _groups(operators, [numbers for _, _, numbers in executed])
    for (key, kind, numbers), group in zip(executed, groups, strict=True):
        nodes = (operators[number].get_friendly_name().removesuffix(_SPLIT) for number in group)
        names = tuple(dict.fromkeys(node_of.get(each, each) for each in nodes))
        last = operators[numbers[-1]] if numbers else None
        tensor = min(last.output(0).get_names(), default=None) if last else None
        steps.append(LayerStep(key, kind, names, tensor))
        ends.append(numbers[-1] if numbers else None)
    keys = [key for key, _, _ in executed]
    yield CounterProbe(steps, keys, request, infer)
    del request, infer
    # Nodes without an operator of the file cannot be cut; their time counts with the next one.
    cuttable = [(step, end) for step, end in zip(steps, ends, strict=True) if end is not None]
    check_cut_size(name, len(cuttable), size_bytes)
    variable = _variable_operators(operators)
    calls, kept, highest = [], [], -1
    for number, (step, end) in enumerate(cuttable):
        if end <= highest:
            continue
        highest = len(operators) if number == len(cuttable) - 1 else end
        outputs = _live_values(operators, highest, variable)
        if not outputs:
            continue
        part = openvino.Model(outputs, model.get_parameters(), "part")
        calls.append(compile_part(part, False)[1])
        kept.append(step)
    empty = openvino.Model(
        [openvino.opset13.result(p) for p in model.get_parameters()], model.get_parameters(), "none"
    )
    yield CutProbe(kept, [compile_part(empty, False)[1], *calls])


def _groups(operators: Sequence[Any], executed: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the operators that each executed node computes.

    These are the operators that the node names, and those before them that no node names.
    """
    places = {operator.get_name(): n for n, operator in enumerate(operators)}
    named = {number for numbers in executed for number in numbers}
    groups = []
    for numbers in executed:
        group = set(numbers)
        waiting = list(numbers)
        while waiting:
            for value in operators[waiting.pop()].input_values():
                source = value.get_node()
                place = places[source.get_name()]
                if place not in named and source.get_type_name() not in ("Parameter", "Constant"):
                    named.add(place)
                    group.add(place)
                    waiting.append(place)
        groups.append(sorted(group))
    return groups


def _variable_operators(operators: Sequence[Any]) -> set[int]:
    """Return the places of the operators that depend on an input; the others are constant."""
    places = {operator.get_name(): n for n, operator in enumerate(operators)}
    variable: set[int] = set()
    for number, operator in enumerate(operators):
        sources = [places[value.get_node().get_name()] for value in operator.input_values()]
        if operator.get_type_name() == "Parameter" or variable.intersection(sources):
            variable.add(number)
    return variable


def _live_values(operators: Sequence[Any], end: int, variable: set[int]) -> list[Any]:
    """Return the values that operators up to a place compute, and that later ones read."""
    places = {operator.get_name(): n for n, operator in enumerate(operators)}
    live: dict[tuple[str, int], Any] = {}
    for number, operator in enumerate(operators):
        if number <= end and operator.get_type_name() != "Result":
            continue
        for value in operator.input_values():
            source = value.get_node()
            place = places[source.get_name()]
            if place <= end and place in variable and source.get_type_name() != "Parameter":
                live[source.get_name(), value.get_index()] = value
    return list(live.values())
