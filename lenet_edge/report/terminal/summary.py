"""Terminal view of `run`: accuracy and latency of each pair, and the recommendation."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from lenet_edge.report.recommend import recommend
from lenet_edge.report.terminal.blocks import (
    advice_line,
    doubt_lines,
    group_by_file,
    machine_line,
    skipped_lines,
    verdict_lines,
    verdict_style,
)
from lenet_edge.report.terminal.table import TerminalTable, figures, texts
from lenet_edge.results.formatting import microseconds, percent, points, short_number
from lenet_edge.results.result_file import BenchRun


def summary_view(run: BenchRun) -> RenderableType:
    """Return parity and latency in one table, with the recommendation below."""
    batches = sorted({cell.batch_size for cell in run.measurements})
    p50 = [f"b{size} µs" if size == batches[0] else f"b{size}" for size in batches]
    table = TerminalTable([*texts(""), *figures("acc %", "drop", "agree%", *p50, "img/s")])
    cells = {(cell.artifact, cell.target, cell.batch_size): cell for cell in run.measurements}
    for file, reports in group_by_file(run.parity):
        size = next((cell.size for cell in run.measurements if cell.artifact == file), "")
        table.start(file, size)
        for report in reports:
            measured = [cells.get((file, report.target, size)) for size in batches]
            table.row(
                report.target,
                percent(report.candidate_accuracy),
                points(report.accuracy_drop),
                percent(report.top1_agreement),
                *(microseconds(cell.p50_s if cell else None) for cell in measured),
                short_number(max((cell.images_per_s for cell in measured if cell), default=None)),
                style=verdict_style(report),
            )
    advice = recommend(run)
    legend = "bN: median latency at batch N in µs. img/s: throughput at the best batch size."
    return Group(
        machine_line(run.environment),
        table,
        Text(f"\n{legend}", style="dim"),
        *skipped_lines(run.skipped),
        *verdict_lines(run.parity),
        *doubt_lines(run),
        advice_line(advice),
    )
