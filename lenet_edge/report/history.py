"""Latency, instructions, accuracy and bytes of each cell over commits, with the change points.

Rule for a change point of a latency: the medians of the six points before and behind it differ by
more than three times the noise. There are two points on either side, or more. Of all such places,
the one counts where the points are nearest to the medians; the parts on both sides are searched in
the same way. The noise is the larger of the median half-width of the intervals, and of the usual
step between neighbours: 1.4826 / √2 times its median. So neither one disturbed run nor an earlier
change widens it. A newest point that leaves the last part by more than that is a change point that
is not confirmed yet.

The other figures have no noise: every difference between neighbours is a change point.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median, median_high, median_low
from typing import Any, Literal

from lenet_edge.machine.environment import Environment
from lenet_edge.results.formatting import latency, machine_name, plain_number, target_and_threads
from lenet_edge.results.result_file import BenchRun

Metric = Literal["latency", "instructions", "accuracy", "bytes", "flash", "stack"]
EMULATED = "instructions in emulators, on any machine"
_NOISES = 3.0  # a step of a latency must be larger than so many times the noise
_DEVIATION = 1.4826 / math.sqrt(2)  # of one point, over the median step between neighbours
_LEAST = 2  # points of a part
_WINDOW = 6  # points before and behind a place that decide


@dataclass(frozen=True)
class HistoryPoint:
    """Figure of a cell at one commit.

    Attributes:
        time: the time of the run, ISO 8601.
        commit: the commit; None if it is unknown.
        is_dirty: whether files differed from the commit; None if it is unknown.
        value: the figure: seconds, instructions, a fraction or bytes.
        half_width: half-width of its 95 % interval over the figure; 0 if it is exact.
    """

    time: str
    commit: str | None
    is_dirty: bool | None
    value: float
    half_width: float = 0.0

    @property
    def label(self) -> str:
        """The commit, with "+" if files differed from it; or else the day."""
        return f"{self.commit[:7]}{'+' if self.is_dirty else ''}" if self.commit else self.time[:10]


@dataclass(frozen=True)
class ChangePoint:
    """Point from which on a figure differs.

    Attributes:
        index: the number of the first point after the change.
        before: the median of the points up to the change point before.
        after: the median of the points up to the next change point.
        is_confirmed: False for a step of a latency in the newest point alone.
    """

    index: int
    before: float
    after: float
    is_confirmed: bool = True

    @property
    def ratio(self) -> float:
        """After over before."""
        return self.after / self.before if self.before else math.inf


@dataclass(frozen=True)
class Series:
    """One figure of one cell on one machine, over time.

    Attributes:
        machine: the name of the machine, or `EMULATED`.
        artifact: the name of the file.
        place: the target, the batch size and the like; "" for a figure of the file itself.
        metric: the kind of the figure.
        points: the figures in order of time, one for each commit.
        changes: the change points in order of time.
    """

    machine: str
    artifact: str
    place: str
    metric: Metric
    points: tuple[HistoryPoint, ...]
    changes: tuple[ChangePoint, ...] = ()

    @property
    def cell(self) -> str:
        """Name of the cell: "lenet_int8.tflite on litert-xnnpack, batch 1"."""
        return f"{self.artifact} on {self.place}" if self.place else self.artifact

    @property
    def total_ratio(self) -> float:
        """The newest figure over the oldest."""
        first, last = self.points[0].value, self.points[-1].value
        return last / first if first else 1.0 if first == last else math.inf

    def describe_change(self, change: ChangePoint) -> str:
        """Return a change point as a phrase: "+12.4 % from 1a2b3c4 on (9.5 to 10.7 µs)"."""
        before, after = (figure_text(self.metric, value) for value in (change.before, change.after))
        if self.metric == "accuracy":
            size = f"{100 * (change.after - change.before):+.2f} points"
        elif abs(change.ratio - 1) < 0.1:
            size = f"{change.ratio - 1:+.2%}"
        else:
            size = f"×{plain_number(change.ratio)}"
        end = "" if change.is_confirmed else "; one point, not confirmed"
        return f"{size} from {self.points[change.index].label} on ({before} to {after}{end})"

    def to_json(self) -> dict[str, Any]:
        """Return the series as a JSON object."""
        return {
            **dataclasses.asdict(self),
            "changes": [
                {
                    **dataclasses.asdict(change),
                    "commit": self.points[change.index].commit,
                    "time": self.points[change.index].time,
                }
                for change in self.changes
            ],
        }


def build_history(runs: Iterable[BenchRun]) -> list[Series]:
    """Return the series of all cells of some runs, by machine, cell and figure.

    The runs of one commit with unchanged files are one point: the median. A cell of different
    settings is a series of its own.
    """
    points: dict[tuple[str, str, str, Metric], list[HistoryPoint]] = {}
    runs = sorted(runs, key=lambda run: run.created_at)
    compilers: dict[str, set[str | None]] = {}
    for count in (count for run in runs for count in run.instruction_counts):
        compilers.setdefault(count.cpu, set()).add(count.compiler)
    # Two compilers make two programs, whose counts would alternate in one series.
    ambiguous = {cpu for cpu, names in compilers.items() if len(names) > 1}
    for run in runs:
        machine = name_machine(run.environment)
        for where, artifact, place, metric, value, half_width in _figures(run, machine, ambiguous):
            point = HistoryPoint(run.created_at, run.git_commit, run.git_dirty, value, half_width)
            points.setdefault((where, artifact, place, metric), []).append(point)
    series = []
    for (machine, artifact, place, metric), all_points in sorted(points.items()):
        joined = tuple(_joined(all_points))
        find_changes = find_noisy_changes if metric == "latency" else find_exact_changes
        changes = tuple(find_changes(joined))
        series.append(Series(machine, artifact, place, metric, joined, changes))
    return series


def name_machine(environment: Environment) -> str:
    """Return the name of a machine, which tells it from those of another `identity`."""
    return " ".join((machine_name(environment), *environment.cpu_features))


def _figures(
    run: BenchRun, machine: str, ambiguous: set[str]
) -> Iterable[tuple[str, str, str, Metric, float, float]]:
    """Yield machine, file, place, kind, value and half-width of each figure of a run."""
    for cell in run.measurements:
        if cell.invalid:
            continue
        target = target_and_threads(cell.target, cell.num_threads)
        place = f"{target}, batch {cell.batch_size}"
        yield machine, cell.artifact, place, "latency", cell.p50_s, cell.half_width
    # Earlier versions recorded the size of a C source, which is no size to ship.
    sizes = {
        cell.artifact: cell.size_bytes for cell in run.measurements if not cell.has_source_size
    }
    for artifact, size in sizes.items():
        yield machine, artifact, "", "bytes", float(size), 0.0
    for report in run.parity:
        if report.candidate_accuracy is not None:
            place = f"{report.target}, {report.num_samples:,} images"
            yield machine, report.candidate, place, "accuracy", report.candidate_accuracy, 0.0
    for count in run.instruction_counts:
        place = f"{count.cpu}, {count.compiler}" if count.cpu in ambiguous else count.cpu
        key = count.artifact, place
        yield EMULATED, *key, "instructions", count.instructions, 0.0
        if count.flash_total_bytes is not None:
            yield EMULATED, *key, "flash", float(count.flash_total_bytes), 0.0
        if count.stack_bytes is not None:
            yield EMULATED, *key, "stack", float(count.stack_bytes), 0.0


def _joined(points: Sequence[HistoryPoint]) -> list[HistoryPoint]:
    """Return one point for each commit whose files were unchanged, and each other point."""
    groups: dict[object, list[HistoryPoint]] = {}
    for number, point in enumerate(points):
        is_named = point.commit is not None and not point.is_dirty
        groups.setdefault(point.commit if is_named else number, []).append(point)
    return [
        dataclasses.replace(
            group[0],
            value=median(point.value for point in group),
            half_width=median(point.half_width for point in group),
        )
        for group in groups.values()
    ]


def find_exact_changes(points: Sequence[HistoryPoint]) -> list[ChangePoint]:
    """Return the change points of a figure without noise: all differences between neighbours."""
    return [
        ChangePoint(number, before.value, after.value)
        for number, (before, after) in enumerate(pairwise(points), 1)
        if before.value != after.value
    ]


def find_noisy_changes(points: Sequence[HistoryPoint]) -> list[ChangePoint]:
    """Return the change points of a latency; the rule is that of this module."""
    values = [math.log(point.value) for point in points]
    steps = [abs(after - before) for before, after in pairwise(values)]
    if not steps:
        return []
    noise = median(point.half_width for point in points)
    if len(steps) > _LEAST:
        noise = max(noise, _DEVIATION * median(steps))
    least = _NOISES * noise
    cuts = _cuts(values, least)
    last = values[cuts[-1] if cuts else 0 : -1]
    is_new = len(last) >= _LEAST and abs(values[-1] - median(last)) > least
    is_new = is_new or (len(values) == _LEAST and steps[0] > least)
    bounds = [0, *cuts, *([len(values) - 1] if is_new else []), len(values)]
    medians = [math.exp(median(values[begin:end])) for begin, end in pairwise(bounds)]
    return [
        ChangePoint(index, before, after, is_confirmed=index < len(values) - 1)
        for index, (before, after) in zip(bounds[1:-1], pairwise(medians), strict=True)
    ]


def _cuts(values: Sequence[float], least: float) -> list[int]:
    """Return the places of the steps that are larger than `least`, in order."""
    gains = {}
    for place in range(_LEAST, len(values) - _LEAST + 1):
        before, after = values[max(0, place - _WINDOW) : place], values[place : place + _WINDOW]
        if _step(before, after) > least:
            gains[place] = _distance([*before, *after]) - _distance(before) - _distance(after)
    if not gains:
        return []
    cut = max(gains, key=gains.__getitem__)
    return [
        *_cuts(values[:cut], least),
        cut,
        *(cut + place for place in _cuts(values[cut:], least)),
    ]


def _step(before: Sequence[float], after: Sequence[float]) -> float:
    """Return the difference of two medians; of two middle values, those nearer to each other."""
    rise = median_low(after) - median_high(before)
    fall = median_low(before) - median_high(after)
    return max(rise, fall)


def _distance(values: Sequence[float]) -> float:
    """Return the sum of the distances to the median."""
    middle = median(values)
    return sum(abs(value - middle) for value in values)


def figure_text(metric: Metric, value: float) -> str:
    """Format a figure with its unit: "9.5 µs", "198,619", "98.91 %" or "71,104 bytes"."""
    if metric == "latency":
        return f"{plain_number(value * 1e6, 4)} µs" if value < 1e-2 else latency(value)
    if metric == "accuracy":
        return f"{100 * value:.2f} %"
    return f"{value:,.0f}" if metric == "instructions" else f"{value:,.0f} bytes"


def is_worse(metric: Metric, change: ChangePoint) -> bool:
    """Return whether a change point is one for the worse."""
    return (change.after < change.before) == (metric == "accuracy")
