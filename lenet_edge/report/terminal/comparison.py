"""Terminal view of `compare`: change of each cell between two runs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.text import Text

from lenet_edge.report.comparison import Change, count_verdicts
from lenet_edge.report.terminal.blocks import Blocks, machine_line
from lenet_edge.results.formatting import microseconds, points, target_and_threads
from lenet_edge.results.result_file import BenchRun


def comparison_view(
    base: BenchRun, changes: Sequence[Change], unmatched: Sequence[str], fail_above: float
) -> RenderableType:
    """Return the latency ratio and the change of accuracy of each cell, then the regressions.

    Args:
        base: the base run.
        changes: cells of both runs.
        unmatched: phrases on the cells of only one run.
        fail_above: relative slowdown that is still accepted.
    """
    blocks = Blocks([("batch", 5), ("base µs", 7), ("new µs", 7), ("ratio", 5), ("95 %", 11),
                     ("acc. pp", 7), ("", 7)])  # fmt: skip
    styles = {"slower": "red", "faster": "green", "invalid": "yellow"}
    in_order = sorted(changes, key=lambda change: change.base.key)
    for file, group in groupby(in_order, key=lambda change: change.base.artifact):
        blocks.start(file)
        for change in group:
            blocks.row(
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
    regressions = [
        Text(f"worse: {change.cell}: {reason}", style="bold red")
        for change in changes
        if (reason := change.regression(fail_above))
    ]
    return Group(
        machine_line(base.environment),
        *blocks.tables,
        Text(f"\n{count_verdicts(changes)}", style="dim"),
        *(Text(line, style="yellow") for line in unmatched),
        *regressions,
    )
