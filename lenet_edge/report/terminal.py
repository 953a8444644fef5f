"""Results as tables for a terminal of 80 columns: one block a file, one row a target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TypeVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lenet_edge.machine.environment import Environment
from lenet_edge.report.parity_details import layers_view, parity_details
from lenet_edge.report.recommend import recommend
from lenet_edge.results.result_file import BenchRun, Measurement, ParityReport, Skipped

_NAME_WIDTH = 20
_NOTHING = "–"
_MOST_ABSENT = 6  # names of targets that are not here; the JSON and `targets` have all
Row = TypeVar("Row", Measurement, ParityReport)


def parity_view(run: BenchRun) -> RenderableType:
    """Return each file's parity with its reference, target by target, and what follows in words."""
    blocks = _Blocks([("acc %", 6), ("95 % of it", 11), ("drop", 6), ("p", 5), ("agree%", 6),
                      ("flips", 5), ("max err", 7), ("", 4)])  # fmt: skip
    for file, reports in _by_file(run.parity):
        blocks.start(file)
        for one in reports:
            low, high = one.accuracy_interval or (None, None)
            blocks.row(
                one.target,
                _percent(one.candidate_accuracy),
                f"{_percent(low)}–{_percent(high)}" if low is not None else _NOTHING,
                _drop(one),
                _NOTHING if one.mcnemar_p is None else f"{one.mcnemar_p:.3f}",
                _percent(one.top1_agreement),
                f"{len(one.flips):,}",
                f"{one.max_abs_error:.1e}",
                {"pass": "pass", "fail": "FAIL"}.get(one.verdict, "?"),
                style=_style(one),
            )
    details = parity_details(run.parity[0]) if len(run.parity) == 1 else []
    for one in run.parity:
        details += layers_view(one.layers, f"\n{one.candidate}: layers")
    return Group(
        *blocks.tables,
        *details,
        *(delegations(run.parity) if len(run.parity) > 1 else []),
        *_verdicts(run.parity),
        *_skipped(run.skipped),
    )


def _percent(share: float | None) -> str:
    return _NOTHING if share is None else f"{100 * share:.2f}"


def _style(report: ParityReport) -> str | None:
    return {"pass": None, "fail": "red"}.get(report.verdict, "yellow")


def _verdicts(reports: Iterable[ParityReport]) -> list[Text]:
    """One line in words for each file that did not pass."""
    lines = []
    for one in reports:
        if one.verdict == "fail":
            lines.append(Text(f"Do not use {one.candidate} on {one.target}: {_failure(one)}."))
        elif one.verdict != "pass":
            lines.append(Text(f"Inconclusive, {one.candidate} on {one.target}: {_failure(one)}."))
        else:
            continue
        lines[-1].stylize(_style(one) or "")
        if one.diagnosis:
            lines.append(Text(f"  {one.diagnosis}", style="bold red"))
    return lines


def _failure(report: ParityReport) -> str:
    return "; ".join(report.reasons) or "it is further off than its bounds allow"


def summary_view(run: BenchRun) -> RenderableType:
    """Return parity and latency side by side, and the one line that says what to ship."""
    batches = sorted({one.batch_size for one in run.measurements})
    p50 = [(f"b{size} µs" if size == batches[0] else f"b{size}", 7) for size in batches]
    blocks = _Blocks([("acc %", 7), ("drop", 5), ("agree%", 6), *p50, ("img/s", 5)])
    cells = {(m.artifact, m.target, m.batch_size): m for m in run.measurements}
    for file, reports in _by_file(run.parity):
        size = next((m.size_bytes for m in run.measurements if m.artifact == file), None)
        blocks.start(file, f"{size:,} bytes" if size else "")
        for one in reports:
            timed = [cells.get((file, one.target, size)) for size in batches]
            blocks.row(
                one.target,
                _percent(one.candidate_accuracy),
                _drop(one),
                f"{100 * one.top1_agreement:.2f}",
                *(_us(m.p50_s if m else None) for m in timed),
                _si(max((m.images_per_s for m in timed if m), default=None)),
                style=_style(one),
            )
    advice = recommend(run)
    return Group(
        _machine(run.environment),
        *blocks.tables,
        Text("\nbN: median latency of a batch of N, in µs. img/s: the best batch.", style="dim"),
        *_skipped(run.skipped),
        *_verdicts(run.parity),
        Text(str(advice), style="bold green" if advice else "bold red"),
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


def machine_name(machine: Environment) -> str:
    """Return the machine in a few words."""
    inside = [
        "EMULATED" if machine.emulated else None,
        "virtual" if machine.virtualized else None,
        f"in {machine.container}" if machine.container else None,
    ]
    kind = ", ".join(filter(None, inside))
    return f"{machine.machine}{f' ({kind})' if kind else ''}, {machine.cores} cores"


def _machine(environment: Environment) -> Text:
    system = f"{environment.operating_system}, Python {environment.python}"
    return Text(f"{machine_name(environment)}, {system}", style="dim")


def _skipped(skipped: Sequence[Skipped]) -> list[Text]:
    """One line for each target and reason, however many files it is about, and one for the rest."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for one in skipped:
        if one.artifact:
            reasons.setdefault((one.target, one.reason), []).append(one.artifact)
    lines = [
        Text(
            f"skipped {target}: {reason.removeprefix(f'{target} ')}"
            f" ({', '.join(dict.fromkeys(files))})",
            style="yellow",
        )
        for (target, reason), files in reasons.items()
    ]
    absent = list(dict.fromkeys(one.target for one in skipped if not one.artifact))
    if absent:
        names = ", ".join(absent[:_MOST_ABSENT])
        more = f" and {len(absent) - _MOST_ABSENT} more" if len(absent) > _MOST_ABSENT else ""
        lines.append(Text(f"Not here: {names}{more}; lenet-edge targets says why", style="dim"))
    return lines


def delegations(rows: Sequence[Row]) -> list[Text]:
    """Return what was taken by whom, where a device or a part of the graph needs saying."""
    said = {}
    for file, of_file in _by_file(rows):
        for one in of_file:
            taken = one.delegation
            if taken and not taken.is_complete:
                said[f"partial: {file} on {one.target}: {taken}"] = "yellow"
            elif taken and taken.device:
                said[f"{file} on {one.target}: {taken}"] = "dim"
    return [Text(line, style=style) for line, style in said.items()]


def _drop(report: ParityReport) -> str:
    drop = report.accuracy_drop
    return _NOTHING if drop is None else f"{drop + 0.0:.2f}"


def _us(seconds: float | None) -> str:
    if seconds is None:
        return _NOTHING
    microseconds = seconds * 1e6
    if microseconds < 1:
        return f"{microseconds:.3f}"
    return f"{microseconds:.1f}" if microseconds < 1000 else f"{microseconds:,.0f}"


def _si(value: float | None) -> str:
    if value is None:
        return _NOTHING
    if value >= 10_000_000:
        return f"{value / 1e6:.0f}M"
    return f"{value / 1000:.0f}k" if value >= 10_000 else f"{value:.0f}"
