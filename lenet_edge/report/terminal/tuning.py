"""Terminal view of `tune`: the Pareto front, the float32 file and the winner."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from lenet_edge.report.terminal.table import TerminalTable, figures, texts
from lenet_edge.results.formatting import microseconds


def tuning_view(facts: dict[str, Any]) -> RenderableType:
    """Return the Pareto front, the float32 file and the winner, the fastest first.

    The winner may be outside the front. It is the smallest of the candidates whose latency is
    tied with the fastest.

    Args:
        facts: JSON object that `Tuned.to_json` returns.
    """
    names = "drop pp", "agree %", "µs", "of float32", "bytes"
    table = TerminalTable([*texts("mix"), *figures(*names)])
    candidates, winner = facts["candidates"], facts["winner"]
    settings = next(c["settings"] for c in candidates if c["name"] == winner["candidate"])
    for candidate in sorted(candidates, key=lambda c: c["ratio_to_float32"]["p50_s"]):
        won = candidate["name"] == winner["candidate"]
        if not (candidate["on_front"] or won or candidate is candidates[0]):
            continue
        ratio = candidate["ratio_to_float32"]
        table.row(
            candidate["name"],
            f"{candidate['accuracy_drop']:.2f}",
            f"{100 * candidate['top1_agreement']:.2f}",
            microseconds(ratio["p50_s"]),
            f"{ratio['median']:.3f}",
            f"{candidate['size_bytes']:,}",
            style="bold" if won else None,
        )
    test, layers = winner["test"], ", ".join(settings)
    result = (
        f"\nWinner: {winner['file']} ({layers}). On the test images it has an accuracy of"
        f" {test['accuracy']:.2%} and loses {test['accuracy_drop']:.2f} points."
    )
    return Group(table, Text(result, style="bold"))
