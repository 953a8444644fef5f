"""The boards of a fleet beside each other: what each takes for each file, and which are slow.

Boards are compared with their equals alone.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from statistics import median

from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from lenet_edge.report.join_runs import by_kind, join
from lenet_edge.report.page_tables import NOTHING, Section, Table
from lenet_edge.report.recommend import recommend
from lenet_edge.report.terminal import _skipped, _us, _verdicts, machine_name, parity_view
from lenet_edge.results.result_file import BenchRun, FleetRun, Measurement

_SLOWER = 1.1  # as many times as long as its equals: more than processes of one board disagree
_MOST_BOARDS = 24  # to be read from top to bottom, and in one table of the terminal
_MOST_FILES = 7


def kind_name(boards: Sequence[BenchRun]) -> str:
    """Return what equal boards are, in a few words, and which."""
    names = [one.board for one in boards if one.board]
    machine = machine_name(boards[0].environment)
    if not names:
        return machine
    which = names[0] if len(names) == 1 else f"{len(names)} boards"
    return f"{machine}: {which}"


def slowness(boards: Sequence[BenchRun]) -> list[float | None]:
    """Return how many times as long as its equals each board takes: the median over their cells.

    In each cell a board is held against the median of the others. None where they share none.
    """
    cells: dict[object, list[float]] = {}
    for run in boards:
        for one in run.measurements:
            cells.setdefault((one.key, one.artifact_sha256), []).append(one.p50_s)
    for times in cells.values():
        times.sort()
    found: list[float | None] = []
    for run in boards:
        # What is invalid counts: it may be so because the board is throttled.
        ratios = [
            one.p50_s / others
            for one in run.measurements
            if (others := _median_without(cells[one.key, one.artifact_sha256], one.p50_s))
        ]
        found.append(median(ratios) if ratios else None)
    return found


def _median_without(times: Sequence[float], own: float) -> float | None:
    """Return the median of sorted times less one of them; None where there is no other."""
    count, place = len(times) - 1, bisect.bisect_left(times, own)
    if not count:
        return None
    middle = [times[i + (i >= place)] for i in {(count - 1) // 2, count // 2}]
    return sum(middle) / len(middle)


def outliers(boards: Sequence[BenchRun]) -> dict[str, str]:
    """Return what is odd about boards that are slower than their equals, or throttled, by name."""
    said = {}
    for run, slower in zip(boards, slowness(boards), strict=True) if len(boards) > 1 else ():
        why = []
        if slower is not None and slower > _SLOWER:
            why.append(f"takes {slower:.2f} times as long as its equals")
        trials = [trial for one in run.measurements for trial in one.processes]
        throttled = dict.fromkeys(
            reason for t in trials for when in (t.before, t.after) for reason in when.throttled
        )
        if throttled:
            why.append(f"says it is held back ({', '.join(throttled)})")
        if why:
            warmest = max((t.after.temperature_celsius or 0.0 for t in trials), default=0.0)
            heat = f", at {warmest:.0f} °C" if warmest else ""
            said[run.board or "one of the machines"] = f"{' and '.join(why)}{heat}"
    return said


def _matrix(boards: Sequence[BenchRun]) -> tuple[list[str], list[list[Measurement | None]], str]:
    """Return the files, and for each board its fastest cell of each, at the smallest batch."""
    cells = [
        one
        for run in boards
        for one in run.measurements
        if not one.artifact.endswith(".keras") and one.target != "null"
    ]
    batch_size = min((one.batch_size for one in cells), default=0)
    files = sorted({one.artifact for one in cells})
    rows = []
    for run in boards:
        wrong = {(r.candidate_sha256, r.target) for r in run.parity if r.verdict == "fail"}
        right = [
            one
            for one in run.measurements
            if one.batch_size == batch_size
            and one.target != "null"
            and not one.invalid
            and (one.artifact_sha256, one.target) not in wrong
        ]
        rows.append([
            min((one for one in right if one.artifact == file), key=lambda m: m.p50_s, default=None)
            for file in files
        ])  # fmt: skip
    return files, rows, f"Median of a batch of {batch_size} in µs, on each board's fastest runtime."


def boards_section(boards: Sequence[BenchRun]) -> Section:
    """Return what each of these equal boards takes for each file."""
    files, rows, what = _matrix(boards)
    texts, styles = [], []
    odd = outliers(boards)
    by_board = list(zip(boards, rows, slowness(boards), strict=True))
    if len(boards) > _MOST_BOARDS:
        by_board.sort(key=lambda one: -(one[2] or 0.0))
        what += " The slowest come first."
    for run, cells, slower in by_board:
        name = run.board or NOTHING
        texts.append(
            (name, *(_us(one.p50_s if one else None) for one in cells),
             NOTHING if slower is None else f"{slower:.2f}")
        )  # fmt: skip
        styles.append("doubtful" if name in odd else "")
    table = Table(("board", *files, "× its equals"), tuple(texts), 1, tuple(styles))
    notes = [what]
    if len(boards) > 1:
        notes.append("What follows is of the valid processes of all these boards together.")
    notes += [f"{name} {why}." for name, why in odd.items()]
    return Section("boards", "Board by board", tuple(notes), table if files else None)


def fleet_view(fleet: FleetRun) -> RenderableType:
    """Return a block for each kind of board: its boards by files, and which file is best there."""
    parts: list[RenderableType] = []
    for boards in by_kind(fleet.runs):
        run = join(boards)
        parts += [Text(f"\n{kind_name(boards)}", style="bold"), *_block(boards)]
        parts += [
            Text(f"outlier: {name} {why}", style="yellow") for name, why in outliers(boards).items()
        ]
        parts += _verdicts(one for one in run.parity if one.verdict == "fail")
        parts += _skipped(run.skipped)
        advice = recommend(run)
        if run.measurements:
            parts.append(Text(str(advice), style="bold green" if advice else "bold red"))
    parts += [Text(f"lost {one.board}: {one.reason}", style="red") for one in fleet.lost]
    return Group(*parts)


def proofs_view(fleet: FleetRun) -> RenderableType:
    """Return each board's proofs, board by board."""
    parts: list[RenderableType] = []
    for run in fleet.runs:
        parts += [Text(f"\n{kind_name([run])}", style="bold"), parity_view(run)]
    parts += [Text(f"lost {one.board}: {one.reason}", style="red") for one in fleet.lost]
    return Group(*parts)


def _block(boards: Sequence[BenchRun]) -> list[RenderableType]:
    section = boards_section(boards)
    if section.table is None:
        return []
    columns = section.table.columns[:-1][: 1 + _MOST_FILES]
    table = RichTable(box=None, padding=(0, 1, 0, 0), header_style="dim")
    for number, name in enumerate(columns):
        head = name.removeprefix("lenet_").replace(".", "\n.") if number else ""
        table.add_column(head, justify="right" if number else "left", no_wrap=True)
    table.add_column("×", justify="right", header_style="dim")
    for row, style in list(zip(section.table.rows, section.table.styles, strict=True))[
        :_MOST_BOARDS
    ]:
        table.add_row(*row[: len(columns)], row[-1], style="yellow" if style else None)
    more = len(boards) - _MOST_BOARDS
    notes = [section.notes[0], "×: times as long as its equals."]
    if more > 0:
        notes.append(f"{more} boards more are in the JSON and in lenet-edge report.")
    return [table, Text(" ".join(notes), style="dim")]
