"""Times of the layers of one artifact on one target, with the sizes and errors of the layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from lenet_edge.results.formatting import latency, microseconds

AGREES_WITHIN = 0.1  # largest share of a call that may stay unexplained


@dataclass(frozen=True)
class LayerTime:
    """Time of one step that a runtime executes: a layer, or several fused ones.

    Attributes:
        name: the layer of the model; the runtime's own name for a step that is no layer.
        step: the runtime's name of the step.
        operator: the type of the step in the runtime.
        time_s: the time in one call, for the whole batch.
        layers: all layers of the model that the step computes; empty for a step that the runtime
            adds, such as a change of the layout.
        tensor: the tensor of the file that the step ends with, as Netron shows it.
        macs: the multiply-accumulates of these layers for one image; None if unknown.
        parameters: the weights and biases of these layers; None if unknown.
        parameter_bytes: their size in the file; None if unknown.
        sqnr_db: the signal-to-quantization-noise ratio of the output; None without a reference.
        lost_db: the reduction of this ratio by these layers alone; None without a reference.
    """

    name: str
    step: str
    operator: str
    time_s: float
    layers: tuple[str, ...] = ()
    tensor: str | None = None
    macs: int | None = None
    parameters: int | None = None
    parameter_bytes: int | None = None
    sqnr_db: float | None = None
    lost_db: float | None = None

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> LayerTime:
        """Return the layer whose fields a JSON object holds."""
        return cls(**{**facts, "layers": tuple(facts["layers"])})


@dataclass(frozen=True)
class LayerTimes:
    """Times of the layers of a cell, measured by one process.

    Attributes:
        artifact: name of the file.
        artifact_sha256: its hash.
        target: name of the target.
        runtime_version: version of the runtime.
        batch_size: images in one call.
        num_threads: threads for one call.
        method: the kind of the measurement.
        whole_s: the median time of a whole call, measured in turn with the layers.
        call_s: the time of a call that computes no layer; None if it was not measured.
        rounds: the number of times that every layer was measured.
        layers: the layers in the order of execution.
    """

    artifact: str
    artifact_sha256: str
    target: str
    runtime_version: str
    batch_size: int
    num_threads: int
    method: str
    whole_s: float
    call_s: float | None
    rounds: int
    layers: tuple[LayerTime, ...]

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> LayerTimes:
        """Return the times that `to_json` wrote."""
        return cls(**{**facts, "layers": tuple(map(LayerTime.from_json, facts["layers"]))})

    def to_json(self) -> dict[str, Any]:
        """Return the times as a JSON object."""
        return asdict(self)

    @property
    def key(self) -> tuple[str, str, int, int]:
        """The file name, target, batch size and thread count."""
        return self.artifact, self.target, self.batch_size, self.num_threads

    def html_rows(self) -> list[dict[str, str]]:
        """Return the rows of a table; see `support.html_table`."""
        return [
            {"layer": part.name, "operator": part.operator, "µs": microseconds(part.time_s),
             "share": f"{self.share(part.time_s):.1%}"}
            for part in self.parts
        ]  # fmt: skip

    @property
    def sum_s(self) -> float:
        """The sum of the times of all layers."""
        return sum(layer.time_s for layer in self.layers)

    @property
    def rest_s(self) -> float:
        """The time of a whole call that is neither a layer nor the call itself; may be negative."""
        return self.whole_s - self.sum_s - (self.call_s or 0.0)

    @property
    def agrees(self) -> bool:
        """True if the layers and the call explain the whole within 10 %."""
        return abs(self.rest_s) <= AGREES_WITHIN * self.whole_s

    @property
    def largest(self) -> LayerTime | None:
        """The layer that takes most time; None without layers."""
        return max(self.layers, key=lambda layer: layer.time_s, default=None)

    def share(self, seconds: float) -> float:
        """Return a time as a fraction of the whole call."""
        return seconds / self.whole_s if self.whole_s else 0.0

    @property
    def rests(self) -> list[tuple[str, float]]:
        """The parts of a call that are no layer, each with its name and its seconds."""
        known = self.call_s is not None
        name = (
            ("not attributed" if known else "outside of the layers")
            if self.rest_s >= 0
            else ("counted twice" if known else "added by the profiler")
        )
        parts = [("call of the runtime", self.call_s or 0.0), (name, self.rest_s)]
        return [(part, seconds) for part, seconds in parts if abs(self.share(seconds)) >= 0.005]

    @property
    def parts(self) -> tuple[LayerTime, ...]:
        """All parts of a call: the layers, and the rests as layers that have only a time."""
        rests = (LayerTime(name, "", "", seconds) for name, seconds in self.rests)
        return *self.layers, *rests

    @property
    def summary(self) -> str:
        """The sentences that name the layer to change, and tell whether the times add up."""
        largest = self.largest
        if largest is None:
            return "The runtime executes no layer."
        rest = ", ".join(f"{name} {self.share(abs(seconds)):.0%}" for name, seconds in self.rests)
        takes = f"{largest.name} takes {self.share(largest.time_s):.0%} of {latency(self.whole_s)}"
        first = (
            f"{takes}; the call of the runtime takes longer than any layer."
            if (self.call_s or 0.0) > largest.time_s
            else f"{takes}: change this layer first."
        )
        whole = f"All layers take {self.share(self.sum_s):.0%}{f'; {rest}' if rest else ''}."
        worst = max(self.layers, key=lambda layer: layer.lost_db or 0.0)
        lost_db = worst.lost_db or 0.0
        loss = f" {worst.name} loses most to quantization: {lost_db:.1f} dB." if lost_db > 1 else ""
        return f"{first} {whole}{loss}"


def check_layer_times(times: LayerTimes) -> None:
    """Check layer times of untrusted origin, whose types are right.

    Raises:
        ValueError: a value is impossible.
    """
    seconds = (times.whole_s, *(layer.time_s for layer in times.layers))
    if times.whole_s <= 0 or min(times.batch_size, times.num_threads) < 1 or min(seconds) < 0:
        raise ValueError(f"the layers of {times.artifact} have impossible times")


def with_layer_errors(
    times: LayerTimes, errors: Sequence[tuple[str, float | None, float]]
) -> LayerTimes:
    """Return the times with the errors of the layers.

    Args:
        times: the times.
        errors: name, signal-to-noise ratio and its reduction of each layer. A step gets the ratio
            of its last layer, and the largest reduction of all its layers.
    """
    by_name = {name: (sqnr_db, lost_db) for name, sqnr_db, lost_db in errors}
    layers = []
    for layer in times.layers:
        known = [by_name[name] for name in layer.layers if name in by_name]
        if known:
            lost_db = max(lost for _, lost in known)
            layer = replace(layer, sqnr_db=known[-1][0], lost_db=lost_db)  # noqa: PLW2901
        layers.append(layer)
    return replace(times, layers=tuple(layers))
