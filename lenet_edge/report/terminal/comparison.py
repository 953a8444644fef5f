"""Terminal view of `compare`: change of each cell between two runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.text import Text

from lenet_edge.report.comparison import Change, Comparison, count_verdicts
from lenet_edge.report.count_comparison import CountChange
from lenet_edge.report.terminal.blocks import machine_line
from lenet_edge.report.terminal.table import TerminalTable, figures, texts
from lenet_edge.results.formatting import microseconds, points, target_and_threads
from lenet_edge.results.result_file import BenchRun


def comparison_view(base: BenchRun, comparison: Comparison, fail_above: float) -> RenderableType:
    """Return the changes of each cell, of the instruction counts, and the regressions.

    Args:
        base: the base run.
        comparison: its comparison with a new run.
        fail_above: relative slowdown that is still accepted.
    """
    return Group(
        *(_latencies(base, comparison.changes) if comparison.changes else ()),
        *(_counts(comparison.counts) if comparison.counts else ()),
        *([Text(comparison.note, style="yellow")] if comparison.note else ()),
        *(Text(line, style="yellow") for line in comparison.unmatched),
        *(
            Text(f"worse: {cell}: {reason}", style="bold red")
            for cell, reason in comparison.regressions(fail_above)
        ),
    )


def _counts(counts: Sequence[CountChange]) -> list[RenderableType]:
    """Return the instructions and the memory of each file before and after."""
    names = "base instr.", "new instr.", "ratio", ""
    table = TerminalTable([*texts(""), *figures(*names)])
    styles = {"more": "red", "fewer": "green"}
    for file, group in groupby(counts, key=lambda change: change.base.artifact):
        table.start(file)
        for change in group:
            table.row(
                change.base.cpu,
                f"{change.base.instructions:,.0f}",
                f"{change.new.instructions:,.0f}",
                f"{change.ratio:.5f}",
                change.verdict,
                style=styles.get(change.verdict),
            )
    lines: list[RenderableType] = [Text(line, style="dim") for line in _memory_lines(counts)]
    for cpu in dict.fromkeys(change.base.cpu for change in counts if change.compilers_differ):
        text = f"{cpu}: other compilers or flags built the two programs, which changes counts"
        lines.append(Text(text, style="yellow"))
    return [table, *lines]


def _memory_lines(counts: Sequence[CountChange]) -> list[str]:
    """Return a line for each size of memory that changed."""
    lines = []
    for change in counts:
        sizes = (
            ("flash", change.base.flash_total_bytes, change.new.flash_total_bytes),
            ("RAM", change.base.ram_bytes, change.new.ram_bytes),
            ("stack", change.base.stack_bytes, change.new.stack_bytes),
        )
        lines += [
            f"{change.cell}: {name} {before:,} -> {after:,} bytes"
            for name, before, after in sizes
            if before is not None and after is not None and before != after
        ]
    return lines


def _latencies(base: BenchRun, changes: Sequence[Change]) -> list[RenderableType]:
    """Return the latency ratio and the change of accuracy of each cell."""
    names = "batch", "base µs", "new µs", "ratio", "95 %", "acc. pp", ""
    table = TerminalTable([*texts(""), *figures(*names)])
    styles = {"slower": "red", "faster": "green", "invalid": "yellow"}
    in_order = sorted(changes, key=lambda change: change.base.key)
    for file, group in groupby(in_order, key=lambda change: change.base.artifact):
        table.start(file)
        for change in group:
            table.row(
                target_and_threads(change.base.target, change.base.num_threads),
                f"{change.base.batch_size}",
                microseconds(change.base.p50_s),
                microseconds(change.new.p50_s),
                f"{change.ratio.value:.3f}",
                f"{change.ratio.low:.3f}–{change.ratio.high:.3f}",
                points(change.accuracy_change, "+"),
                change.verdict,
                style=styles.get(change.verdict),
            )
    return [
        machine_line(base.environment),
        table,
        Text(f"\n{count_verdicts(changes)}", style="dim"),
    ]
