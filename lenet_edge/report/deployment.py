"""A deployment as a table for a terminal: each file on the board, and beside it the same here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from lenet_edge.report.terminal import (
    _NOTHING,
    _Blocks,
    _by_file,
    _drop,
    _machine,
    _percent,
    _skipped,
    _style,
    _us,
    _verdicts,
)
from lenet_edge.results.result_file import BenchRun


def deployment_view(
    board: BenchRun,
    here: BenchRun,
    differences: Iterable[object],
    findings: Iterable[dict[str, Any]],
) -> RenderableType:
    """Return accuracy and latency on the board, beside the latency of the same cells here.

    Args:
        board: what was found there.
        here: the same files on the same runtimes of this machine, as far as it has them.
        differences: a line on each file's answers, there and here.
        findings: what `doctor` said on the board.
    """
    batches = sorted({one.batch_size for one in board.measurements})
    columns = [column for size in batches for column in ((f"b{size} µs", 8), ("here", 6))]
    blocks = _Blocks([("acc %", 6), ("drop", 5), ("agree%", 6), *columns])
    cells = [
        {(m.artifact, m.target, m.batch_size): m for m in run.measurements} for run in (board, here)
    ]
    for file, reports in _by_file(board.parity):
        blocks.start(file)
        for one in reports:
            timed = [of.get((file, one.target, size)) for size in batches for of in cells]
            blocks.row(
                one.target,
                _percent(one.candidate_accuracy),
                _drop(one),
                f"{100 * one.top1_agreement:.2f}",
                *(_us(m.p50_s if m else None) for m in timed),
                style=_style(one),
            )
    doubts = [
        Text(f"invalid: {reason}", style="red")
        for reason in sorted({m.invalid for m in board.measurements if m.invalid})
    ]
    if emulated := board.environment.emulated:
        said = f"emulated: {emulated}; these latencies say nothing of a board"
        doubts.insert(0, Text(said, style="yellow"))
    return Group(
        Text("The board: ").append_text(_machine(board.environment)),
        Text("Here: ").append_text(_machine(here.environment)),
        *blocks.tables,
        Text(f"\nMedian latency of a batch; {_NOTHING} where it was not measured.", style="dim"),
        *doubts,
        *(Text(f"{one['check']}: {one['found']}. {one['fix']}", style="yellow")
          for one in findings if one["status"] in ("warning", "failure")),
        *_skipped([one for one in board.skipped if one.artifact]),
        *_verdicts(board.parity),
        *(Text(str(one)) for one in differences),
    )  # fmt: skip
