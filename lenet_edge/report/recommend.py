"""Which file to ship, on which runtime, with how many threads: one answer, and why not the rest."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from lenet_edge.report.eligibility import JudgedCell, Limits, cell, edge_cells, judge, threads, us
from lenet_edge.report.rank import latency_s, quantile_of
from lenet_edge.results.result_file import BenchRun, Measurement, ParityReport
from lenet_edge.results.stats import LatencyRatio
from lenet_edge.support.html_table import html_lines, html_table

_MOST_NAMED = 2  # ties, or nearest candidates, in one sentence
# What a file that is as fast costs more, and what the simpler one has.
_SIMPLER = {
    "needs more threads": "fewer threads",
    "is larger": "fewer bytes",
    "takes more memory": "less memory",
}


@dataclass(frozen=True)
class Recommendation:
    """The choice, what was proven of it, and the rest: first those that are as fast as it."""

    measurement: Measurement
    parity: ParityReport
    figure: str
    ties: tuple[JudgedCell, ...]
    others: tuple[JudgedCell, ...]

    @property
    def choice(self) -> str:
        """What to ship."""
        one = self.measurement
        return f"Ship {one.artifact} on {one.target} with {threads(one)}"

    @property
    def reason(self) -> str:
        """Why: its speed, its size and what was proven of its accuracy."""
        one, drop = self.measurement, self.parity.accuracy_drop
        at = f"at batch {one.batch_size} ({self.figure})"
        if self.ties:
            named = [str(tie) for tie in self.ties[:_MOST_NAMED]]
            more = len(self.ties) - len(named)
            named += [f"{more} more"] if more else []
            simpler = {_simpler(one, tie.measurement) for tie in self.ties}
            less = [words for more, words in _SIMPLER.items() if more in simpler]
            why = f"as fast {at} as {' and '.join(named)}, with {' and '.join(less)}"
        else:
            why = f"fastest {at}"
        lost = f"{drop:.2f} points of accuracy lost" if drop and drop > 0 else "no accuracy lost"
        proof = f"{lost} on {self.parity.num_samples:,} images."
        doubt = "" if self.parity.passed else " Too few images to be sure."
        return f"{why}; {one.size_bytes:,} bytes, {proof}{doubt}"

    def __str__(self) -> str:
        return f"{self.choice}: {self.reason}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def _repr_html_(self) -> str:
        return html_lines([str(self)]) + html_table(
            [one.html_row() for one in (*self.ties, *self.others)]
        )

    def to_json(self) -> dict[str, Any]:
        """Return what a JSON file holds."""
        others = [one.to_json() for one in (*self.ties, *self.others)]
        return {"ship": cell(self.measurement), "reason": self.reason, "others": others}


@dataclass(frozen=True)
class NothingFits:
    """No cell may be shipped; `nearest` are the candidates, what missed by the least first."""

    nearest: tuple[JudgedCell, ...]

    def __bool__(self) -> bool:
        return False

    @property
    def choice(self) -> str:
        """What to ship."""
        return "Nothing to ship"

    @property
    def reason(self) -> str:
        """Which bound excluded the nearest candidates."""
        if not self.nearest:
            return "nothing was timed; add the results of: lenet-edge bench --json FILE"
        if all(one.parity is None for one in self.nearest):
            return "nothing was verified; add the results of: lenet-edge verify --json FILE"
        missed = (f"{one} {one.why_not}" for one in self.nearest[:_MOST_NAMED])
        return f"{'; '.join(missed)}."

    def __str__(self) -> str:
        return f"{self.choice}: {self.reason}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def _repr_html_(self) -> str:
        return html_lines([str(self)]) + html_table([one.html_row() for one in self.nearest])

    def to_json(self) -> dict[str, Any]:
        """Return what a JSON file holds."""
        others = [one.to_json() for one in self.nearest]
        return {"ship": None, "reason": self.reason, "others": others}


def recommend(run: BenchRun, limits: Limits | None = None) -> Recommendation | NothingFits:
    """Return the fastest file × target × threads within the limits that is still right.

    Only what passed parity in the same run is considered (where nothing could, for want of images,
    what did not fail), and no checkpoint: that is not an edge file. Where the interval of the ratio
    of two latencies contains 1, speed does not decide but simplicity: fewer threads, then the
    smaller file, then the runtime that takes less memory.

    Raises:
        DataError: nothing was measured at the batch size that was asked for.
    """
    limits = limits or Limits()
    quantile = quantile_of(run)
    cells = [judge(one, run, limits, quantile) for one in edge_cells(run, limits.batch_size)]
    fit = [one for one in cells if not one.missed]
    if not fit:
        # What is wrong with a file holds at every batch: it is said once.
        cells.sort(key=lambda one: (len(one.missed), max(one.missed), one.measurement.batch_size))
        named = {(one.measurement.artifact, one.measurement.target): one for one in cells[::-1]}
        return NothingFits(tuple(one for one in cells if one in named.values()))
    best = min(fit, key=lambda one: _first(one.measurement, quantile)).measurement
    resolution = run.settings.get("precision", 0.0)

    def over(one: JudgedCell, other: Measurement) -> LatencyRatio:
        return one.measurement.ratio_to(other, run.paired, resolution, quantile)

    cells = sorted(
        (one for one in cells if one.measurement.batch_size == best.batch_size),
        key=lambda one: latency_s(one.measurement, quantile),
    )
    equal = [one for one in cells if not one.missed and over(one, best).low <= 1]
    chosen = min(equal, key=lambda one: _simplicity(one.measurement, quantile))
    measured, parity = chosen.measurement, chosen.parity
    assert parity is not None
    ties = tuple(
        dataclasses.replace(one, why_not=f"as fast, but {_simpler(measured, one.measurement)}")
        for one in equal
        if one is not chosen
    )
    others = tuple(
        one
        if one.missed
        else dataclasses.replace(
            one, why_not=f"takes {over(one, measured).value:.2f} times as long"
        )
        for one in cells
        if one not in equal
    )
    return Recommendation(measured, parity, _figure(measured, quantile), ties, others)


def _first(one: Measurement, quantile: float | None) -> tuple[float, float]:
    """Order cells of all batch sizes: the smallest batch, but for throughput the best rate."""
    if quantile is None:
        return -one.images_per_s, 0.0
    return one.batch_size, latency_s(one, quantile)


def _simplicity(one: Measurement, quantile: float | None) -> tuple[float, ...]:
    return one.num_threads, one.size_bytes, one.peak_rss_bytes, latency_s(one, quantile)


def _simpler(chosen: Measurement, other: Measurement) -> str:
    """Say what the other one costs more, by the first thing in which they differ."""
    if other.num_threads != chosen.num_threads:
        return "needs more threads"
    if other.size_bytes != chosen.size_bytes:
        return "is larger"
    return "takes more memory"


def _figure(one: Measurement, quantile: float | None) -> str:
    if quantile is None:
        return f"{one.images_per_s:,.0f} images/s"
    name = "" if quantile == 0.5 else f"p{100 * quantile:.0f} "
    return f"{name}{us(latency_s(one, quantile))}"
