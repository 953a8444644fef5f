"""Recommendation of the file to ship, with its runtime and thread count, and the reasons."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lenet_edge.report.eligibility import (
    JudgedCell,
    Limits,
    cell_name,
    cell_to_json,
    exported_cells,
    judge,
    too_large_files,
)
from lenet_edge.report.rank import ranking_latency_s, ranking_quantile
from lenet_edge.results.enough_images import CHECK_HINT, NUM_CHECKED, other_reasons
from lenet_edge.results.formatting import error, latency, name_some, percent
from lenet_edge.results.latency_estimate import LatencyRatio
from lenet_edge.results.parity_report import worst_verdict
from lenet_edge.results.result_file import BenchRun, Measurement, ParityReport
from lenet_edge.support.html_table import html_lines, html_table

_MAX_NAMED = 2  # ties, or nearest cells, in one sentence
# A disadvantage of a tied cell, and the matching advantage of the recommended cell.
_ADVANTAGES = {
    "needs more threads": "needs fewer threads",
    "is larger": "is smaller",
    "has an unknown size": "has a known size",
    "takes more memory": "takes less memory",
}


@dataclass(frozen=True)
class Recommendation:
    """Chosen cell, with the reasons.

    Attributes:
        measurement: latencies of the chosen cell.
        parity: its comparison with the reference.
        figure: the latency or throughput that decided, formatted.
        ties: cells that are as fast.
        others: all other cells at that batch size.
        rivals: those of `others` that the samples cannot separate from the chosen cell.
    """

    measurement: Measurement
    parity: ParityReport
    figure: str
    ties: tuple[JudgedCell, ...]
    others: tuple[JudgedCell, ...]
    rivals: tuple[JudgedCell, ...] = ()

    @property
    def verdict(self) -> str:
        """Verdict on the chosen file: "pass", or "inconclusive" if nothing could pass."""
        return self.parity.verdict

    @property
    def choice(self) -> str:
        """Statement of what to ship, or that nothing is proven right, without a full stop."""
        return f"{self.statement} {cell_name(self.measurement)}"

    @property
    def statement(self) -> str:
        """The choice without the name of its cell."""
        return "Ship" if self.parity.passed else "No file is proven right; the best is"

    @property
    def reason(self) -> str:
        """Sentences on the speed, the size and the accuracy of the choice."""
        size_and_accuracy = (
            f"It has {self.measurement.size} and {self._quality()} {self.parity.samples}."
        )
        caution = ""
        if not self.parity.passed:  # nothing could pass
            doubts = other_reasons(self.parity)
            caution = f" But {doubts[0]}." if doubts else f" {self._too_few()}."
        return f"{self._speed()} {size_and_accuracy}{caution}"

    def _quality(self) -> str:
        """Return the accuracy lost, or else the agreement, or else the largest error, in words."""
        drop, agreement = self.parity.accuracy_drop, self.parity.top1_agreement
        if drop is not None:
            return f"loses {f'{drop:.2f} points of accuracy' if drop > 0 else 'no accuracy'} on"
        if agreement is not None:
            return f"agrees with the reference on {percent(agreement)} % of"
        return f"differs from the reference by at most {error(self.parity.max_abs_error)} on"

    def _too_few(self) -> str:
        if self.parity.num_samples == NUM_CHECKED:
            return f"Nothing is proven: {CHECK_HINT}"
        return "There are too few images to be sure"

    def _speed(self) -> str:
        batch = f"At batch {self.measurement.batch_size}"
        rivals = (
            f" The samples are too coarse to separate it from {_names(self.rivals)}."
            if self.rivals
            else ""
        )
        if not self.ties:
            if not self.others:
                return f"{batch} it was the only one measured ({self.figure})."
            fastest = "took the least time" if rivals else "is the fastest"
            number = 1 + len(self.others)
            return f"{batch} it {fastest} that fits, of {number} measured ({self.figure}).{rivals}"
        costs = {_extra_cost(self.measurement, tie.measurement) for tie in self.ties}
        advantages = " or ".join(gain for cost, gain in _ADVANTAGES.items() if cost in costs)
        return (
            f"{batch} ({self.figure}) it is as fast as {_names(self.ties)}, and it {advantages}."
            f"{rivals}"
        )

    def __str__(self) -> str:
        return f"{self.choice}. {self.reason}"

    def __repr__(self) -> str:
        return f"Recommendation({self.choice!r})"

    def _repr_html_(self) -> str:
        return html_lines([str(self)]) + html_table(
            [cell.html_row() for cell in (*self.ties, *self.others)]
        )

    def to_json(self) -> dict[str, Any]:
        """Return the recommendation as a JSON object."""
        others = [cell.to_json() for cell in (*self.ties, *self.others)]
        return {"ship": cell_to_json(self.measurement), "reason": self.reason, "others": others}


@dataclass(frozen=True)
class NothingFits:
    """Lack of any cell that may be shipped. It is false in a condition.

    Attributes:
        nearest: cells, the nearest to fitting first.
        verdict: "fail" if each cell failed parity or misses a limit. If nothing was timed, the
            verdict on all pairs; "inconclusive" if nothing was verified, or a limit is set that
            not every file is known to miss.
        too_large: if nothing was timed, each file with the memory that it exceeds.
    """

    nearest: tuple[JudgedCell, ...]
    verdict: str = "fail"
    too_large: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return False

    @property
    def choice(self) -> str:
        """Statement that there is nothing to ship, or no choice, without a full stop."""
        return "Nothing to ship" if self.verdict == "fail" else "No file is recommended"

    @property
    def reason(self) -> str:
        """Sentence on the limits or checks that excluded the nearest cells."""
        if self.too_large:
            return f"{'; '.join(self.too_large[:_MAX_NAMED])}."
        if not self.nearest:
            return "Nothing was timed; add the results of: lenet-edge bench --json FILE"
        if all(cell.parity is None for cell in self.nearest):
            return "Nothing was verified; add the results of: lenet-edge verify --json FILE"
        reasons = (f"{cell} {cell.why_not}" for cell in self.nearest[:_MAX_NAMED])
        return f"{'; '.join(reasons)}."

    def __str__(self) -> str:
        return f"{self.choice}. {self.reason}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def _repr_html_(self) -> str:
        return html_lines([str(self)]) + html_table([cell.html_row() for cell in self.nearest])

    def to_json(self) -> dict[str, Any]:
        """Return the result as a JSON object."""
        others = [cell.to_json() for cell in self.nearest]
        return {"ship": None, "reason": self.reason, "others": others}


def recommend(run: BenchRun, limits: Limits | None = None) -> Recommendation | NothingFits:
    """Return the fastest cell within the limits that passed parity in the same run.

    If no pair could pass because there were too few images, inconclusive pairs are accepted.
    Checkpoints are never recommended: they are not edge files. Among tied cells, the choice has
    fewer threads, then the smaller file, then the runtime that takes less memory.

    Raises:
        DataError: nothing was measured at the batch size in `limits`.
    """
    limits = limits or Limits()
    quantile = ranking_quantile(run)
    cells = [
        judge(measurement, run, limits, quantile)
        for measurement in exported_cells(run, limits.batch_size)
    ]
    eligible = [cell for cell in cells if not cell.missed_by]
    if not cells and (too_large := too_large_files(run, limits)):
        return NothingFits((), "fail", tuple(too_large))
    if not eligible:
        return NothingFits(_nearest(cells), _verdict_without_choice(cells, run, limits))
    best = min(eligible, key=lambda cell: _speed_key(cell.measurement, quantile)).measurement

    def ratio(cell: JudgedCell, other: Measurement) -> LatencyRatio:
        return cell.measurement.ratio_to(other, run.paired, run.precision, quantile)

    cells = sorted(
        (cell for cell in cells if cell.measurement.batch_size == best.batch_size),
        key=lambda cell: ranking_latency_s(cell.measurement, quantile),
    )
    tied = [
        cell
        for cell in cells
        if not cell.missed_by and (cell.measurement is best or ratio(cell, best).tied)
    ]
    chosen = min(tied, key=lambda cell: _cost_key(cell.measurement, quantile))
    measurement, parity = chosen.measurement, chosen.parity
    assert parity is not None
    ties = tuple(
        dataclasses.replace(
            cell, why_not=f"is as fast, but {_extra_cost(measurement, cell.measurement)}"
        )
        for cell in tied
        if cell is not chosen
    )
    others, rivals = [], []
    for cell in cells:
        if cell in tied:
            continue
        if cell.missed_by:
            others.append(cell)
            continue
        to_chosen = ratio(cell, measurement)
        others.append(dataclasses.replace(cell, why_not=_slower(to_chosen)))
        if to_chosen.low <= 1:
            rivals.append(others[-1])
    figure = _figure(measurement, quantile)
    return Recommendation(measurement, parity, figure, ties, tuple(others), tuple(rivals))


def _verdict_without_choice(cells: Sequence[JudgedCell], run: BenchRun, limits: Limits) -> str:
    """Return the verdict of `NothingFits`."""
    if cells:
        return "fail" if any(cell.parity is not None for cell in cells) else "inconclusive"
    verdicts = {report.verdict for report in run.parity}
    if not verdicts or limits != Limits():
        verdicts.add("inconclusive")
    return worst_verdict(verdicts)


def _names(cells: Sequence[JudgedCell]) -> str:
    return name_some([str(cell) for cell in cells], _MAX_NAMED)


def _slower(ratio: LatencyRatio) -> str:
    """Return the reason against a slower cell; with the interval if it may not be slower."""
    reason = f"takes {ratio.value:.2f} times as long"
    if not ratio.equal:
        return reason
    return f"{reason}, but the interval is {ratio.low:.2f} to {ratio.high:.2f}"


def _nearest(cells: list[JudgedCell]) -> tuple[JudgedCell, ...]:
    """Return each pair's cell that is nearest to fitting, the nearest pair first."""
    in_order = sorted(
        cells,
        key=lambda cell: (len(cell.missed_by), max(cell.missed_by), cell.measurement.batch_size),
    )
    pairs: dict[tuple[str, str], JudgedCell] = {}
    for cell in in_order:
        pairs.setdefault((cell.measurement.artifact, cell.measurement.target), cell)
    return tuple(pairs.values())


def _speed_key(measurement: Measurement, quantile: float | None) -> tuple[float, float]:
    """Return the sort key of speed across batch sizes: the smallest batch, or the throughput."""
    if quantile is None:
        return -measurement.images_per_s, 0.0
    return measurement.batch_size, ranking_latency_s(measurement, quantile)


def _cost_key(measurement: Measurement, quantile: float | None) -> tuple[float, ...]:
    return (
        measurement.num_threads,
        math.inf if measurement.has_source_size else measurement.size_bytes,
        measurement.peak_rss_bytes,
        ranking_latency_s(measurement, quantile),
    )


def _extra_cost(chosen: Measurement, other: Measurement) -> str:
    """Return the first cost that another tied cell has above the chosen one."""
    if other.num_threads != chosen.num_threads:
        return "needs more threads"
    if other.has_source_size:
        return "has an unknown size"
    if other.size_bytes != chosen.size_bytes:
        return "is larger"
    return "takes more memory"


def _figure(measurement: Measurement, quantile: float | None) -> str:
    if quantile is None:
        return f"{measurement.images_per_s:,.0f} images/s"
    name = "" if quantile == 0.5 else f"p{100 * quantile:.0f} "
    return f"{name}{latency(ranking_latency_s(measurement, quantile))}"
