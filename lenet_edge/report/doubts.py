"""Doubts about the latencies of a run: one line for all cells, and the details of each cell."""

from __future__ import annotations

from lenet_edge.report.rank import places
from lenet_edge.results.formatting import plural
from lenet_edge.results.result_file import BenchRun, Measurement


def disturbance_line(run: BenchRun) -> str | None:
    """Return a sentence on the disturbed cells of a run, and on what to do; None without any."""
    cells = [cell for cell in run.measurements if not cell.invalid and cell.target != "null"]
    disturbed = [cell for cell in cells if cell.disturbances]
    ranking = places(run)
    coarse = any(place.unseparated for place in ranking)
    busy = run.environment.busy
    if not (cells and (disturbed or coarse or busy)):
        return None
    parts = []
    if disturbed:
        reasons = f" ({_reasons(disturbed[0])})" if len(disturbed) == 1 else ""
        parts.append(f"{len(disturbed)} of {plural(len(cells), 'cell')} disturbed{reasons}")
    if coarse:
        parts.append("the ranking is coarse; run again when quiet")
    elif disturbed and ranking:
        parts.append("the ranking is fine enough")
    start = f"Other programs used this machine (load {run.environment.load:.1f})" if busy else ""
    text = ", ".join(parts) or "no cell was disturbed"
    return f"{start}: {text}" if start else f"{text[0].upper()}{text[1:]}"


def doubt_details(run: BenchRun) -> tuple[str, ...]:
    """Return a line for each cell with reasons to doubt it, the disturbed cells first."""
    cells = [cell for cell in run.measurements if not cell.invalid and cell.instability]
    in_order = sorted(cells, key=lambda cell: (not cell.disturbances, cell.key))
    return tuple(_reasons(cell) for cell in in_order)


def invalid_lines(run: BenchRun) -> tuple[str, ...]:
    """Return a line for each cell whose figures must not be used."""
    return tuple(f"{cell.cell}: {cell.invalid}" for cell in run.measurements if cell.invalid)


def _reasons(cell: Measurement) -> str:
    return f"{cell.cell}: {'; '.join(cell.instability)}"
