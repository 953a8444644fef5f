"""Terminal view of the cycles that boards counted. They have no rank among latencies."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from lenet_edge.report.terminal.table import TerminalTable, figures, texts
from lenet_edge.results.cycle_count import CycleCount
from lenet_edge.results.formatting import MISSING
from lenet_edge.support.printable import make_printable


def cycle_views(counts: Sequence[CycleCount]) -> list[RenderableType]:
    """Return a table with a row for each file on each board; nothing without counts."""
    if not counts:
        return []
    table = TerminalTable([*texts(""), *figures("median", "middle half", "range", "ms")])
    for count in counts:
        seconds = count.median_s
        table.row(
            f"{count.artifact} on {count.target}",
            f"{count.median:,.0f}",
            f"{count.lower_quartile:,.0f} to {count.upper_quartile:,.0f}",
            f"{count.minimum:,.0f} to {count.maximum:,.0f}",
            MISSING if seconds is None else f"{seconds * 1e3:.3f}",
        )
    units = dict.fromkeys(f"{make_printable(count.target)}: {count.unit}" for count in counts)
    note = "The board counts the network alone, without the serial line. They are not ranked."
    return [
        Text("\ncounts of an inference on a board", style="bold"),
        table,
        *(Text(unit, style="dim") for unit in units),
        Text(note, style="dim"),
    ]
