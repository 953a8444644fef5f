"""Equal boards of a fleet side by side: latency of each file, slow boards, throttled boards."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from lenet_edge.report.eligibility import is_exported
from lenet_edge.results.formatting import machine_name, plural
from lenet_edge.results.result_file import BenchRun, Measurement

_SLOW = 1.1  # latency relative to equal boards; processes of one board differ by less


def machines_name(boards: Sequence[BenchRun]) -> str:
    """Return the name of equal machines, with the board or the number of boards."""
    names = [run.board for run in boards if run.board]
    machine = machine_name(boards[0].environment)
    if not names:
        return machine
    return f"{machine}: {names[0] if len(names) == 1 else plural(len(names), 'board')}"


def relative_latencies(boards: Sequence[BenchRun]) -> list[float | None]:
    """Return the latency of each board relative to its equals: the median over the shared cells.

    In each cell, a board is compared with the median of the other boards. Invalid measurements
    count, because throttling may be the reason that they are invalid.

    Returns:
        One value per board; None if it shares no cell with another board.
    """
    medians: dict[object, list[float]] = {}
    for run in boards:
        for cell in run.measurements:
            medians.setdefault((cell.key, cell.artifact_sha256), []).append(cell.p50_s)
    for values in medians.values():
        values.sort()
    latencies: list[float | None] = []
    for run in boards:
        ratios = [
            cell.p50_s / others
            for cell in run.measurements
            if (others := _median_without(medians[cell.key, cell.artifact_sha256], cell.p50_s))
        ]
        latencies.append(median(ratios) if ratios else None)
    return latencies


def _median_without(ordered: Sequence[float], own: float) -> float | None:
    """Return the median of ordered values without one of them; None if there is no other."""
    count, index = len(ordered) - 1, bisect.bisect_left(ordered, own)
    if not count:
        return None
    middle = [ordered[i + (i >= index)] for i in {(count - 1) // 2, count // 2}]
    return sum(middle) / len(middle)


def find_outliers(boards: Sequence[BenchRun]) -> dict[str, str]:
    """Return the boards that are slower than their equals or throttled, each with a phrase."""
    if len(boards) < 2:
        return {}
    outliers = {}
    for run, relative in zip(boards, relative_latencies(boards), strict=True):
        reasons = []
        if relative is not None and relative > _SLOW:
            reasons.append(f"takes {relative:.2f} times as long as equal boards")
        processes = [process for cell in run.measurements for process in cell.processes]
        throttled = dict.fromkeys(
            reason
            for process in processes
            for conditions in (process.before, process.after)
            for reason in conditions.throttled
        )
        if throttled:
            reasons.append(f"is throttled ({', '.join(throttled)})")
        if reasons:
            hottest = max(
                (process.after.temperature_celsius or 0.0 for process in processes), default=0.0
            )
            heat = f", at {hottest:.0f} °C" if hottest else ""
            outliers[run.board or "one of the machines"] = f"{' and '.join(reasons)}{heat}"
    return outliers


@dataclass(frozen=True)
class BoardMatrix:
    """Fastest cell of each file on each of several equal boards.

    Attributes:
        batch_size: the smallest batch size that was measured.
        files: file names of the artifacts.
        rows: cells of each board, in the order of `files`; None if no cell is valid.
    """

    batch_size: int
    files: tuple[str, ...]
    rows: tuple[tuple[Measurement | None, ...], ...]


def board_matrix(boards: Sequence[BenchRun]) -> BoardMatrix:
    """Return the fastest valid cell of each file on each board, at the smallest batch size."""
    cells = [cell for run in boards for cell in run.measurements if is_exported(cell)]
    batch_size = min((cell.batch_size for cell in cells), default=0)
    files = tuple(sorted({cell.artifact for cell in cells}))
    return BoardMatrix(
        batch_size, files, tuple(_fastest_cells(run, files, batch_size) for run in boards)
    )


def _fastest_cells(
    run: BenchRun, files: Sequence[str], batch_size: int
) -> tuple[Measurement | None, ...]:
    failed = run.failed_pairs
    usable = [
        cell
        for cell in run.measurements
        if cell.batch_size == batch_size
        and cell.target != "null"
        and not cell.invalid
        and (cell.artifact_sha256, cell.target) not in failed
    ]
    return tuple(
        min(
            (cell for cell in usable if cell.artifact == file),
            key=lambda cell: cell.p50_s,
            default=None,
        )
        for file in files
    )
