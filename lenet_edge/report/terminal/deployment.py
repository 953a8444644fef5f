"""Terminal view of `deploy`: each file on the board, beside the same cell on the host."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from lenet_edge.report.terminal.blocks import (
    group_by_file,
    machine_line,
    skipped_lines,
    verdict_lines,
    verdict_style,
)
from lenet_edge.report.terminal.table import TerminalTable, figures, texts
from lenet_edge.results.formatting import MISSING, microseconds, percent, points
from lenet_edge.results.result_file import BenchRun


def deployment_view(
    board: BenchRun,
    host: BenchRun,
    differences: Iterable[object],
    findings: Iterable[dict[str, Any]],
) -> RenderableType:
    """Return accuracy and latency on the board, beside the latency of the same cells on the host.

    Args:
        board: results of the board.
        host: results of the same pairs on the host; it may lack some targets.
        differences: a line for each file on the predictions of board and host.
        findings: results of the checks of `doctor` on the board.
    """
    batches = sorted({cell.batch_size for cell in board.measurements})
    names = [name for size in batches for name in (f"b{size} µs", "host")]
    table = TerminalTable([*texts(""), *figures("acc %", "drop", "agree%", *names)])
    cells_by_machine = [
        {(cell.artifact, cell.target, cell.batch_size): cell for cell in run.measurements}
        for run in (board, host)
    ]
    for file, reports in group_by_file(board.parity):
        table.start(file)
        for report in reports:
            measured = [
                cells.get((file, report.target, size))
                for size in batches
                for cells in cells_by_machine
            ]
            table.row(
                report.target,
                percent(report.candidate_accuracy),
                points(report.accuracy_drop),
                percent(report.top1_agreement),
                *(microseconds(cell.p50_s if cell else None) for cell in measured),
                style=verdict_style(report),
            )
    invalid = sorted({cell.invalid for cell in board.measurements if cell.invalid})
    return Group(
        Text("Board: ").append_text(machine_line(board.environment)),
        Text("Host: ").append_text(machine_line(host.environment)),
        table,
        Text(f"\nMedian latency of a batch; {MISSING} if it was not measured.", style="dim"),
        *_emulation(board),
        *(Text(f"invalid: {reason}", style="red") for reason in invalid),
        *(
            Text(f"{finding['check']}: {finding['found']}; {finding['fix']}", style="yellow")
            for finding in findings
            if finding["status"] in ("warning", "failure")
        ),
        *skipped_lines([skip for skip in board.skipped if skip.artifact]),
        *verdict_lines(board.parity),
        *(Text(str(difference)) for difference in differences),
    )


def _emulation(board: BenchRun) -> list[Text]:
    emulated = board.environment.emulated
    if not emulated:
        return []
    warning = f"emulated: {emulated}; these latencies do not apply to a real board"
    return [Text(warning, style="yellow")]
