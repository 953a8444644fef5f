"""What `tune` found, as a table and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from lenet_edge.errors import MissingPackageError
from lenet_edge.support.files import atomic_write


def front_view(facts: dict[str, Any]) -> RenderableType:
    """Return the Pareto front, the float32 file and the winner, the fastest first.

    The winner may be beside the front: it is the smallest of those that no measurement can tell
    from the fastest.

    Args:
        facts: what `Tuned.to_json` gives.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("mix", "drop pp", "agree %", "µs", "of float32", "bytes"):
        table.add_column(column, justify="left" if column == "mix" else "right")
    for one in sorted(facts["candidates"], key=_latency):
        won = one["name"] == facts["winner"]["candidate"]
        if not (one["on_front"] or won or one is facts["candidates"][0]):
            continue
        ratio = one["ratio_to_float32"]
        table.add_row(
            one["name"],
            f"{one['accuracy_drop']:.2f}",
            f"{100 * one['top1_agreement']:.2f}",
            f"{ratio['p50_s'] * 1e6:.1f}",
            f"{ratio['median']:.3f}",
            f"{one['size_bytes']:,}",
            style="bold" if won else None,
        )
    winner = facts["winner"]
    chosen = next(one for one in facts["candidates"] if one["name"] == winner["candidate"])
    layers = ", ".join(chosen["settings"])
    said = (
        f"\nWinner: {winner['file']} ({layers}), {winner['test']['accuracy']:.2%} of the test"
        f" images, {winner['test']['accuracy_drop']:.2f} points of accuracy lost on them."
    )
    return Group(table, Text(said, style="bold"))


def save_picture(facts: dict[str, Any], path: Path) -> None:
    """Draw latency against accuracy, with the bytes as colour, and write it as a PNG.

    Args:
        facts: what `Tuned.to_json` gives.
        path: the file to write.

    Raises:
        MissingPackageError: matplotlib is not installed.
        LenetEdgeError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackageError("matplotlib", "report") from None
    rows = facts["candidates"]
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    latencies = [_latency(one) * 1e6 for one in rows]
    changes = [-one["accuracy_drop"] for one in rows]
    points = axes.scatter(
        latencies, changes, c=[one["size_bytes"] / 1000 for one in rows], cmap="viridis", zorder=2
    )
    figure.colorbar(points, label="file size, kB")
    for one, latency, change in zip(rows, latencies, changes, strict=True):
        if one["on_front"]:
            axes.scatter(latency, change, s=120, facecolors="none", edgecolors="black", zorder=3)
        if one["name"] == facts["winner"]["candidate"] or one is rows[0]:
            label = "winner" if one is not rows[0] else "float32"
            axes.annotate(label, (latency, change), xytext=(6, 8), textcoords="offset points")
    axes.set_xlabel(f"median latency at batch 1, one thread, {facts['target']}, µs")
    axes.set_ylabel(f"accuracy change on {facts['num_held_out']:,} held-out images, points")
    axes.set_title(f"{facts['num_tried']} mixes tried; the Pareto front is ringed")
    axes.grid(alpha=0.3)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _latency(candidate: dict[str, Any]) -> float:
    latency: float = candidate["ratio_to_float32"]["p50_s"]
    return latency
