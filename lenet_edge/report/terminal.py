"""Results as tables for a terminal of 80 columns: one block a file, one row a target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from statistics import median
from typing import TypeVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lenet_edge.environment import Environment
from lenet_edge.report.comparison import Change
from lenet_edge.report.rank import quantile_of, ranks
from lenet_edge.report.recommend import recommend
from lenet_edge.results import BenchRun, Measurement, ParityReport, Skipped

_NAME_WIDTH = 22
_MOST_DOUBTS = 8
_NOTHING = "–"
Row = TypeVar("Row", Measurement, ParityReport)


def parity_view(run: BenchRun) -> RenderableType:
    """Return each file's parity with the float model, target by target."""
    blocks = _Blocks([("accuracy", 8), ("drop pp", 7), ("agree %", 7), ("flips", 5),
                      ("max error", 9), ("verdict", 16)])  # fmt: skip
    for file, reports in _by_file(run.parity):
        blocks.start(file)
        for one in reports:
            blocks.row(
                one.target,
                f"{one.candidate_accuracy:.2%}",
                _drop(one),
                f"{100 * one.top1_agreement:.2f}",
                f"{len(one.flips):,}",
                f"{one.max_abs_error:.1e}",
                verdict(one),
                style=None if one.passed else "red",
            )
    return Group(*blocks.tables, *_skipped(run.skipped))


def verdict(report: ParityReport) -> str:
    """Return in a few words whether the file may be used, and if not, why."""
    if report.non_finite:
        return f"FAIL {report.non_finite} NaN"
    return "pass" if report.passed else f"FAIL drop > {report.tolerance:g}"


def _failure(report: ParityReport) -> str:
    if report.non_finite:
        return f"{report.non_finite:,} images are answered with NaN or infinity"
    return f"it loses {report.accuracy_drop:.2f} points of accuracy, more than {report.tolerance:g}"


def bench_view(run: BenchRun) -> RenderableType:
    """Return the latencies of each file, a row for each target, batch size and threads."""
    blocks = _Blocks([("batch", 5), ("p50 µs", 7), ("±", 5), ("p90", 7), ("p99", 7),
                      ("img/s", 6), ("load ms", 7), ("rank", 4)])  # fmt: skip
    places = ranks(run)
    for file, measurements in _by_file(run.measurements):
        random = ", random inputs" if measurements[0].inputs == "random" else ""
        blocks.start(file, f"{measurements[0].size_bytes:,} bytes{random}")
        for one in measurements:
            blocks.row(
                _on(one),
                f"{one.batch_size}",
                _us(one.p50_s),
                f"{one.half_width:.1%}",
                _us(one.p90_s),
                _us(one.p99_s),
                _si(one.images_per_s),
                f"{one.load_time_s * 1e3:.0f}",
                places.get(one.key, "–"),
                style="red" if one.invalid else None,
            )
    left = f"\n{run.remaining} processes of the plan have not run yet." if run.remaining else ""
    return Group(
        _machine(run.environment),
        _state(run.environment),
        *blocks.tables,
        Text(f"\n{_legend(run)}{left}", style="dim"),
        *_doubts(run),
        *_skipped(run.skipped),
    )


def _on(one: Measurement) -> str:
    return f"{one.target} ×{one.num_threads}" if one.num_threads > 1 else one.target


def _legend(run: BenchRun) -> str:
    by = {0.5: "p50", 0.9: "p90", 0.99: "p99", None: "img/s"}[quantile_of(run)]
    said = [f"±: 95 % interval of p50, half-width. rank: by {by} at that batch; = cannot be told"
            " apart."]  # fmt: skip
    trials = [t for one in run.measurements for t in one.trials if t.calls_per_sample == 1]
    timer = [trial.timer_s for trial in trials if trial.timer_s is not None]
    null = [trial.null_s for trial in trials if trial.null_s is not None]
    if timer and null:
        said.append(
            f"In each figure: the clock's {median(timer) * 1e6:.2f} µs; a session that does"
            f" nothing reads {median(null) * 1e6:.2f} µs."
        )
    blocks = {one.calls_per_sample for one in run.measurements} - {1}
    if blocks:
        said.append("Where p90 is missing the clock is slow beside a call: blocks were timed.")
    joules = [
        f"{_on(one)} b{one.batch_size} {one.energy_j * 1e6:.3g}"
        for one in run.measurements
        if one.energy_j is not None
    ]
    if joules:
        covers = {one.energy_covers for one in run.measurements} - {None}
        said.append(f"µJ an image ({', '.join(map(str, covers))}): {', '.join(joules)}.")
    else:
        said.append("Energy: not measured, this machine has no meter that can be read.")
    return "\n".join(said)


def _doubts(run: BenchRun) -> list[Text]:
    """What makes figures doubtful: of the machine first, then of each cell."""
    said = [Text(f"doubtful: {one}", style="yellow") for one in run.environment.warnings]
    cells = []
    for one in run.measurements:
        name = f"{one.artifact} on {_on(one)}, batch {one.batch_size}"
        if one.invalid:
            said.append(Text(f"invalid: {name}: {one.invalid}", style="red"))
        elif one.instability:
            cells.append(Text(f"doubtful: {name}: {'; '.join(one.instability)}", style="yellow"))
    said += cells[:_MOST_DOUBTS]
    if len(cells) > _MOST_DOUBTS:
        said.append(Text(f"and {len(cells) - _MOST_DOUBTS} cells more (--json)", style="yellow"))
    return said


def comparison_view(
    base: BenchRun, changes: Sequence[Change], lonely: Sequence[str], fail_above: float
) -> RenderableType:
    """Return what became of each cell: the ratio with its interval, and accuracy beside it."""
    blocks = _Blocks([("batch", 5), ("base µs", 7), ("new µs", 7), ("ratio", 5), ("95 %", 11),
                      ("acc. pp", 7), ("", 7)])  # fmt: skip
    styles = {"slower": "red", "faster": "green", "invalid": "yellow"}
    in_order = sorted(changes, key=lambda one: one.base.key)
    for file, group in groupby(in_order, key=lambda one: one.base.artifact):
        blocks.start(file)
        for one in group:
            accuracy = one.accuracy_change
            blocks.row(
                _on(one.base),
                f"{one.base.batch_size}",
                _us(one.base.p50_s),
                _us(one.new.p50_s),
                f"{one.ratio.value:.3f}",
                f"{one.ratio.low:.3f}–{one.ratio.high:.3f}",
                _NOTHING if accuracy is None else f"{accuracy:+.2f}",
                one.verdict,
                style=styles.get(one.verdict),
            )
    verdicts = [one.verdict for one in changes]
    worse = [
        Text(f"worse: {one.base.artifact} on {_on(one.base)}, batch {one.base.batch_size}: {why}",
             style="bold red")
        for one in changes
        if (why := one.regression(fail_above))
    ]  # fmt: skip
    total = ", ".join(
        f"{verdicts.count(kind)} {kind}"
        for kind in ("equal", "faster", "slower", "invalid")
        if kind in verdicts
    )
    return Group(
        _machine(base.environment),
        *blocks.tables,
        Text(f"\n{total}", style="dim"),
        *(Text(line, style="yellow") for line in lonely),
        *worse,
    )


def summary_view(run: BenchRun) -> RenderableType:
    """Return parity and latency side by side, and the one line that says what to ship."""
    batches = sorted({one.batch_size for one in run.measurements})
    p50 = [(f"b{size} µs" if size == batches[0] else f"b{size}", 7) for size in batches]
    blocks = _Blocks([("accuracy", 8), ("drop", 5), ("agree%", 6), *p50, ("img/s", 5)])
    cells = {(m.artifact, m.target, m.batch_size): m for m in run.measurements}
    for file, reports in _by_file(run.parity):
        size = next((m.size_bytes for m in run.measurements if m.artifact == file), None)
        blocks.start(file, f"{size:,} bytes" if size else "")
        for one in reports:
            timed = [cells.get((file, one.target, size)) for size in batches]
            blocks.row(
                one.target,
                f"{one.candidate_accuracy:.2%}",
                _drop(one),
                f"{100 * one.top1_agreement:.2f}",
                *(_us(m.p50_s if m else None) for m in timed),
                _si(max((m.images_per_s for m in timed if m), default=None)),
                style=None if one.passed else "red",
            )
    advice = recommend(run)
    failed = [
        Text(f"Do not use {one.candidate} on {one.target}: {_failure(one)}.", style="red")
        for one in run.parity
        if not one.passed
    ]
    last = str(advice) if advice else "Nothing to ship: no file passed parity and was timed."
    return Group(
        _machine(run.environment),
        *blocks.tables,
        Text("\nbN: median latency of a batch of N, in µs. img/s: the best batch.", style="dim"),
        *_skipped(run.skipped),
        *failed,
        Text(last, style="bold green" if advice else "bold red"),
    )


class _Blocks:
    """Tables under each other whose columns line up; only the first has a header."""

    def __init__(self, columns: Sequence[tuple[str, int]]) -> None:
        self._columns = columns
        self.tables: list[Table] = []

    def start(self, *title: str) -> None:
        table = Table(
            title="  ".join(title),
            title_style="bold",
            title_justify="left",
            box=None,
            padding=(0, 1, 0, 0),
            header_style="dim",
            show_header=not self.tables,
        )
        table.add_column("", width=_NAME_WIDTH, no_wrap=True)
        for name, width in self._columns:
            table.add_column(name, width=width, justify="right", no_wrap=True)
        self.tables.append(table)

    def row(self, *cells: str, style: str | None = None) -> None:
        self.tables[-1].add_row(*cells, style=style)


def _by_file(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    def file(row: Row) -> str:
        return row.artifact if isinstance(row, Measurement) else row.candidate

    return [(name, list(group)) for name, group in groupby(sorted(rows, key=file), key=file)]


def _machine(environment: Environment) -> Text:
    inside = [
        "EMULATED" if environment.emulated else None,
        "virtual" if environment.virtualized else None,
        f"in {environment.container}" if environment.container else None,
    ]
    kind = ", ".join(filter(None, inside))
    return Text(
        f"{environment.machine}{f' ({kind})' if kind else ''}, {environment.cores} cores,"
        f" {environment.operating_system}, Python {environment.python}",
        style="dim",
    )


def _state(environment: Environment) -> Text:
    """What of the machine decides its speed, as far as it tells."""
    facts = [
        " ".join(environment.cpu_features),
        f"governor {environment.governor}" if environment.governor else "no governor told",
        f"{environment.frequency_mhz:.0f} MHz" if environment.frequency_mhz else None,
        f"{environment.temperature_celsius:.0f} °C" if environment.temperature_celsius else None,
    ]
    return Text(", ".join(filter(None, facts)), style="dim")


def _skipped(skipped: Sequence[Skipped]) -> list[Text]:
    """One line for each target and reason, however many files it is about."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for one in skipped:
        reasons.setdefault((one.target, one.reason), []).append(one.artifact or "")
    return [
        Text(f"skipped {target}: {reason} ({', '.join(filter(None, files))})", style="yellow")
        for (target, reason), files in reasons.items()
    ]


def _drop(report: ParityReport) -> str:
    return f"{report.accuracy_drop + 0.0:.2f}"


def _us(seconds: float | None) -> str:
    if seconds is None:
        return _NOTHING
    microseconds = seconds * 1e6
    return f"{microseconds:.1f}" if microseconds < 1000 else f"{microseconds:,.0f}"


def _si(value: float | None) -> str:
    if value is None:
        return _NOTHING
    return f"{value / 1000:.0f}k" if value >= 10_000 else f"{value:.0f}"
