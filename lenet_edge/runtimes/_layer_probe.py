"""Probes of an open session, which measure the time of each step that the runtime executes.

A session that has probes is a `TimesLayers`. There are two kinds of probe. A profiler reports each
step of one call. Cut graphs need no profiler. Each is the start of the graph, with one step more
than the cut graph before it, so a difference is the time of a step.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, repeat
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np

from lenet_edge.errors import TargetError
from lenet_edge.target import InputValues

# Cut graphs are open at the same time, each with its weights.
MAX_CUT_BYTES = 4 << 30
Value = TypeVar("Value", bound=Hashable)


@dataclass(frozen=True)
class LayerStep:
    """A step that a runtime executes: an operator, or several fused ones.

    Attributes:
        name: the name of the step in the runtime.
        operator: the type of the step in the runtime.
        nodes: the operators of the file that the step computes, by the names that `inspection` and
            Netron show. They are empty for a step that the runtime adds.
        tensor: the tensor of the file that the step ends with; None if there is none.
    """

    name: str
    operator: str
    nodes: tuple[str, ...] = ()
    tensor: str | None = None


class LayerProbe(ABC):
    """Measurement of the steps of one session.

    Attributes:
        method: the kind of the measurement, as a noun phrase.
        steps: the steps in the order of execution.
    """

    method: str
    steps: tuple[LayerStep, ...]

    @abstractmethod
    def sample(self, calls: int) -> Sequence[float]:
        """Run some calls, and return seconds of one call, in the form that `split` takes."""

    @abstractmethod
    def split(self, rows: Sequence[Sequence[float]]) -> tuple[float | None, list[float]]:
        """Return the time of a call without any step, and that of each step, from all samples.

        The time of a call is None if the probe does not measure it.
        """

    def close(self) -> None:  # noqa: B027 (most probes have nothing to release)
        """Release the resources of the probe."""


class ProfilerProbe(LayerProbe):
    """Base of the probes that get the time of each step from the runtime."""

    def split(self, rows: Sequence[Sequence[float]]) -> tuple[float | None, list[float]]:
        """Return the median of each step."""
        return None, medians(rows)


class CutProbe(LayerProbe):
    """Differences between the starts of a graph.

    Args:
        steps: the steps.
        calls: a function that runs the graph without steps, and one for the start up to each step.
        kept: objects that the functions need and do not refer to.
    """

    method = "differences between cut graphs"

    def __init__(
        self,
        steps: Sequence[LayerStep],
        calls: Sequence[Callable[[], object]],
        kept: Sequence[object] = (),
    ) -> None:
        self.steps, self._calls, self._kept = tuple(steps), tuple(calls), kept

    def sample(self, calls: int) -> list[float]:
        """Return the seconds of a call of each start of the graph."""
        return [seconds_per_call(call, calls) for call in self._calls]

    def split(self, rows: Sequence[Sequence[float]]) -> tuple[float | None, list[float]]:
        """Return the differences between the starts.

        An output at a cut may cost more than the next step. The part of a graph takes no longer
        than the whole, so each start counts with the least time of all that contain it.
        """
        starts = list(accumulate(reversed(medians(rows)), min))[::-1]
        return starts[0], [longer - shorter for shorter, longer in pairwise(starts)]

    def close(self) -> None:
        """Release the graphs."""
        self._calls = self._kept = ()


def medians(rows: Sequence[Sequence[float]]) -> list[float]:
    """Return the median of each column."""
    return [float(value) for value in np.median(np.array(rows), axis=0)]


@runtime_checkable
class TimesLayers(Protocol):
    """Session whose steps can be timed."""

    def layer_probes(self, values: InputValues) -> Iterator[LayerProbe]:
        """Yield the probes of this session, the cheapest first.

        The caller closes each probe before it takes the next one.

        Args:
            values: the values that `prepare` got.

        Raises:
            TargetError: the runtime cannot time the steps of this model.
        """


def seconds_per_call(call: Callable[[], object], calls: int) -> float:
    """Return the mean seconds of some calls in a row. One call before them fills the caches."""
    call()
    started = time.perf_counter()
    for _ in repeat(None, calls):
        call()
    return (time.perf_counter() - started) / calls


def live_values(
    nodes: Sequence[tuple[Sequence[Value], Sequence[Value]]], kept: int, outputs: Sequence[Value]
) -> list[Value]:
    """Return the values that the first nodes compute, and that others or the caller read.

    Args:
        nodes: the inputs and the outputs of each node.
        kept: the number of nodes before the cut.
        outputs: the outputs of the whole graph.
    """
    read = {*outputs, *(value for inputs, _ in nodes[kept:] for value in inputs)}
    return [value for _, computed in nodes[:kept] for value in computed if value in read]


def check_cut_size(name: str, steps: int, size_bytes: int) -> None:
    """Check that the cut graphs of a model fit into memory.

    Raises:
        TargetError: they need too much.
    """
    if steps * size_bytes > MAX_CUT_BYTES:
        raise TargetError(
            f"the times of {name} need {steps} cut graphs of {size_bytes / 2**20:,.0f} MiB; measure"
            " it with a runtime that has a profiler"
        )
