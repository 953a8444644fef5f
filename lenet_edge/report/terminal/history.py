"""Terminal view of a history: a line of blocks for each series, and its change points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.text import Text

from lenet_edge.report.history import Series, figure_text, is_worse
from lenet_edge.report.terminal.table import TableColumn, TerminalTable, figures, texts
from lenet_edge.support.printable import make_printable

_LEVELS = "▁▂▃▄▅▆▇█"
_WIDTH = 14  # newest points that are drawn


def history_view(series: Sequence[Series]) -> RenderableType:
    """Return a table for each machine, and a line for each change point."""
    views: list[RenderableType] = []
    for machine, group in groupby(series, key=lambda each: each.machine):
        views.append(Text(f"\n{make_printable(machine)}", style="bold"))
        columns = [*texts("", ""), *figures("newest", "total"), TableColumn("", "picture")]
        table = TerminalTable(columns)
        lines = []
        artifact = ""
        for each in group:
            if each.artifact != artifact:
                artifact = each.artifact
                table.start(artifact)
            table.row(
                each.place or "the file",
                each.metric,
                figure_text(each.metric, each.points[-1].value),
                f"{each.total_ratio - 1:+.1%}" if len(each.points) > 1 else "",
                sparkline([point.value for point in each.points]),
                style="bold" if each.changes else None,
            )
            for change in each.changes:
                text = f"{each.cell}: {each.metric} {each.describe_change(change)}"
                worse = is_worse(each.metric, change)
                lines.append(Text(make_printable(text), style="red" if worse else "green"))
        views += [table, *lines]
    return Group(*views, Text(_LEGEND, style="dim"))


_LEGEND = (
    "\nChange points: of a latency, a step of the median by more than three times the noise; of any"
    " other figure, every change. + marks files that differed from the commit."
)


def sparkline(values: Sequence[float]) -> str:
    """Return the newest values as blocks from the lowest to the highest of them."""
    shown = values[-_WIDTH:]
    low, high = min(shown), max(shown)
    if low == high:
        return _LEVELS[0] * len(shown)
    top = len(_LEVELS) - 1
    return "".join(_LEVELS[round(top * (value - low) / (high - low))] for value in shown)
