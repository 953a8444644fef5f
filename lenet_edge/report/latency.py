"""Latencies as tables for a terminal of 80 columns: those of one run, and two runs compared."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from statistics import median

from rich.console import Group, RenderableType
from rich.text import Text

from lenet_edge.machine.environment import Environment
from lenet_edge.report.comparison import Change
from lenet_edge.report.rank import quantile_of, ranks
from lenet_edge.report.terminal import (
    _NOTHING,
    _Blocks,
    _by_file,
    _machine,
    _si,
    _skipped,
    _us,
    _verdicts,
    delegations,
)
from lenet_edge.results.result_file import BenchRun, Measurement

_MOST_DOUBTS = 8


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
        *delegations(run.measurements),
        *_arenas(run.measurements),
        *_doubts(run),
        *_verdicts(one for one in run.parity if one.verdict == "fail"),
        *_skipped(run.skipped),
    )


def _arenas(measurements: Sequence[Measurement]) -> list[Text]:
    arenas = {
        f"{one.artifact} on {one.target}: a tensor arena of {one.arena_bytes:,} bytes"
        for one in measurements
        if one.arena_bytes
    }
    return [Text(line, style="dim") for line in sorted(arenas)]


def _on(one: Measurement) -> str:
    return f"{one.target} ×{one.num_threads}" if one.num_threads > 1 else one.target


def _legend(run: BenchRun) -> str:
    by = {0.5: "p50", 0.9: "p90", 0.99: "p99", None: "img/s"}[quantile_of(run)]
    said = [f"±: 95 % interval of p50, half-width. rank: by {by} at that batch; = cannot be told"
            " apart."]  # fmt: skip
    trials = [t for one in run.measurements for t in one.processes if t.calls_per_sample == 1]
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


def _state(environment: Environment) -> Text:
    """What of the machine decides its speed, as far as it tells."""
    facts = [
        " ".join(environment.cpu_features),
        f"governor {environment.governor}" if environment.governor else "no governor told",
        f"{environment.frequency_mhz:.0f} MHz" if environment.frequency_mhz else None,
        f"{environment.temperature_celsius:.0f} °C" if environment.temperature_celsius else None,
    ]
    return Text(", ".join(filter(None, facts)), style="dim")
