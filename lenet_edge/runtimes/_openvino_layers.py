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
# Compiles a model, or a part of it, and returns its request and the call that runs it.
Compiler = Callable[[Any, bool], tuple[Any, Callable[[], object]]]
# The inputs of an operator: the place of the operator that computes each, and the value.
Inputs = list[tuple[int, Any]]


class CounterProbe(ProfilerProbe):
    """OpenVINO's counters.

    Args:
        steps: the executed nodes.
        request: a request of a model that was compiled with counters.
        infer: runs the request.
    """

    method = "counters of OpenVINO"

    def __init__(
        self,
        steps: Sequence[LayerStep],
        request: Any,
        infer: Callable[[], object],
    ) -> None:
        self.steps, self._request, self._infer = tuple(steps), request, infer

    def sample(self, calls: int) -> list[float]:
        """Return the mean seconds of each node; OpenVINO averages over all calls so far."""
        for _ in range(calls):
            self._infer()
        times = {
            info.node_name: info.real_time.total_seconds() for info in self._request.profiling_info
        }
        return [times.get(step.name, 0.0) for step in self.steps]


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
    inputs = _read_inputs(operators)
    groups = _groups(operators, inputs, [numbers for _, _, numbers in executed])
    steps: list[LayerStep] = []
    # Nodes without an operator of the file cannot be cut; their time counts with the next one.
    cuttable: list[tuple[LayerStep, int]] = []
    for (key, kind, numbers), group in zip(executed, groups, strict=True):
        nodes = (operators[number].get_friendly_name().removesuffix(_SPLIT) for number in group)
        names = tuple(dict.fromkeys(node_of.get(each, each) for each in nodes))
        last = operators[numbers[-1]] if numbers else None
        tensor = min(last.output(0).get_names(), default=None) if last else None
        steps.append(LayerStep(key, kind, names, tensor))
        if numbers:
            cuttable.append((steps[-1], numbers[-1]))
    yield CounterProbe(steps, request, infer)
    del request, infer
    check_cut_size(name, len(cuttable), size_bytes)
    variable = _variable_operators(operators, inputs)
    calls, kept, highest = [], [], -1
    for number, (step, end) in enumerate(cuttable):
        if end <= highest:
            continue
        highest = len(operators) if number == len(cuttable) - 1 else end
        outputs = _live_values(operators, inputs, highest, variable)
        if not outputs:
            continue
        part = openvino.Model(outputs, model.get_parameters(), "part")
        calls.append(compile_part(part, False)[1])
        kept.append(step)
    empty = openvino.Model(
        [openvino.opset13.result(p) for p in model.get_parameters()], model.get_parameters(), "none"
    )
    yield CutProbe(kept, [compile_part(empty, False)[1], *calls])


def _read_inputs(operators: Sequence[Any]) -> list[Inputs]:
    """Return the inputs of each operator."""
    places = {operator.get_name(): n for n, operator in enumerate(operators)}
    return [
        [(places[value.get_node().get_name()], value) for value in operator.input_values()]
        for operator in operators
    ]


def _groups(
    operators: Sequence[Any], inputs: Sequence[Inputs], executed: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Return the operators that each executed node computes.

    These are the operators that the node names, and those before them that no node names.
    """
    named = {number for numbers in executed for number in numbers}
    groups = []
    for numbers in executed:
        group = set(numbers)
        waiting = list(numbers)
        while waiting:
            for place, _ in inputs[waiting.pop()]:
                kind = operators[place].get_type_name()
                if place not in named and kind not in ("Parameter", "Constant"):
                    named.add(place)
                    group.add(place)
                    waiting.append(place)
        groups.append(sorted(group))
    return groups


def _variable_operators(operators: Sequence[Any], inputs: Sequence[Inputs]) -> set[int]:
    """Return the places of the operators that depend on an input; the others are constant."""
    variable: set[int] = set()
    for number, operator in enumerate(operators):
        is_variable = any(place in variable for place, _ in inputs[number])
        if is_variable or operator.get_type_name() == "Parameter":
            variable.add(number)
    return variable


def _live_values(
    operators: Sequence[Any], inputs: Sequence[Inputs], end: int, variable: set[int]
) -> list[Any]:
    """Return the values that operators up to a place compute, and that later ones read."""
    live: dict[tuple[int, int], Any] = {}
    for number, operator in enumerate(operators):
        if number <= end and operator.get_type_name() != "Result":
            continue
        for place, value in inputs[number]:
            is_parameter = operators[place].get_type_name() == "Parameter"
            if place <= end and place in variable and not is_parameter:
                live[place, value.get_index()] = value
    return list(live.values())
