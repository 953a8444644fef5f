"""Terminal views of a fleet: equal boards side by side, and the parity of each board."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from lenet_edge.report.equal_boards import find_outliers, machines_name
from lenet_edge.report.join_runs import group_by_machine, pool
from lenet_edge.report.page_tables import boards_section
from lenet_edge.report.recommend import recommend
from lenet_edge.report.terminal.blocks import advice_line, skipped_lines, verdict_lines
from lenet_edge.report.terminal.parity import parity_view
from lenet_edge.report.terminal.table import TerminalTable, figures, texts
from lenet_edge.results.result_file import BenchRun, FleetRun

_MAX_BOARDS = 24


def fleet_view(fleet: FleetRun) -> RenderableType:
    """Return a block for each kind of board: latencies, outliers, verdicts, recommendation."""
    parts: list[RenderableType] = []
    for boards in group_by_machine(fleet.runs):
        run = pool(boards)
        parts += [Text(f"\n{machines_name(boards)}", style="bold"), *_boards_table(boards)]
        parts += [
            Text(f"outlier: {name} {reason}", style="yellow")
            for name, reason in find_outliers(boards).items()
        ]
        parts += verdict_lines(report for report in run.parity if report.verdict == "fail")
        parts += skipped_lines(run.skipped)
        if run.measurements:
            advice = recommend(run)
            parts.append(advice_line(advice))
    return Group(*parts, *_lost_lines(fleet))


def fleet_parity_view(fleet: FleetRun) -> RenderableType:
    """Return the parity reports of each board, board by board."""
    parts: list[RenderableType] = []
    for run in fleet.runs:
        parts += [Text(f"\n{machines_name([run])}", style="bold"), parity_view(run)]
    return Group(*parts, *_lost_lines(fleet))


def _lost_lines(fleet: FleetRun) -> list[Text]:
    return [Text(f"lost {board.board}: {board.reason}", style="red") for board in fleet.lost]


def _boards_table(boards: Sequence[BenchRun]) -> list[RenderableType]:
    section = boards_section(boards)
    if section.table is None:
        return []
    files = section.table.columns[1:-1]
    names = (name.removeprefix("lenet_").replace(".", "\n.") for name in files)
    table = TerminalTable([*texts(""), *figures(*names, "rel.")], repeat=True)
    for row, style in zip(section.table.rows[:_MAX_BOARDS], section.table.styles, strict=False):
        table.row(*row, style="yellow" if style else None)
    note = section.notes[0]
    more = len(boards) - _MAX_BOARDS
    if more > 0:
        note += f" {more} more boards are in the JSON file and in lenet-edge report."
    return [table, Text(note, style="dim")]
