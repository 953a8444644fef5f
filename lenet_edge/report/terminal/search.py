"""Terminal view of `search`: the Pareto front, and the smallest network that is accurate enough."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from lenet_edge.report.terminal.table import TerminalTable, figures, texts


def search_view(facts: dict[str, Any]) -> RenderableType:
    """Return the Pareto front, the smallest network first.

    Args:
        facts: JSON object that `flows.search.search` returns.
    """
    names = "held out %", "test %", "weight bytes", "instructions"
    table = TerminalTable([*texts("network", "precision"), *figures(*names)])
    for point in facts["points"]:
        if not point["on_front"]:
            continue
        count = point["instructions"]
        table.row(
            point["name"],
            point["precision"],
            f"{100 * point['held_out_accuracy']:.2f}",
            f"{100 * point['test_accuracy']:.2f}",
            f"{point['weight_bytes']:,}",
            f"{count:,.0f}" if count else f"~{point['estimated_instructions']:,}",
            style="bold" if point["name"] == facts["smallest"] else None,
        )
    least = facts["settings"]["min_accuracy"]
    wanted = "" if least is None else f" of at least {100 * least:g} %"
    if facts["smallest"]:
        result = f"\nThe smallest network{wanted}: {facts['smallest']}.keras"
    else:
        result = (
            f"\nNo network has an accuracy{wanted}; allow more bytes or instructions, or give more"
            " --trials or --epochs"
        )
    return Group(table, Text(result, style="bold"))
