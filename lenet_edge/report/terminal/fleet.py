"""Terminal views of a fleet: equal boards side by side, and the parity of each board."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lenet_edge.report.equal_boards import find_outliers, machines_name
from lenet_edge.report.join_runs import group_by_machine, pool
from lenet_edge.report.page_tables import boards_section
from lenet_edge.report.recommend import recommend
from lenet_edge.report.terminal.blocks import skipped_lines, verdict_lines
from lenet_edge.report.terminal.parity import parity_view
from lenet_edge.results.result_file import BenchRun, FleetRun

_MAX_BOARDS = 24
_MAX_FILES = 7  # more columns do not fit in 80 characters


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
            parts.append(Text(str(advice), style="bold green" if advice else "bold red"))
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
    columns = list(section.table.columns[:-1][: 1 + _MAX_FILES])
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    for number, name in enumerate(columns):
        heading = name.removeprefix("lenet_").replace(".", "\n.") if number else ""
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    table.add_column("rel.", justify="right", header_style="dim")
    for row, style in zip(section.table.rows[:_MAX_BOARDS], section.table.styles, strict=False):
        table.add_row(*row[: len(columns)], row[-1], style="yellow" if style else None)
    note = section.notes[0]
    more = len(boards) - _MAX_BOARDS
    if more > 0:
        note += f" {more} more boards are in the JSON file and in lenet-edge report."
    return [table, Text(note, style="dim")]
