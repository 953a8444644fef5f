"""How the latencies of each cell are spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lenet_edge.report.charts.common import Chart, Styles, both, microseconds
from lenet_edge.report.charts.svg import GRID, INK, MUTED, figure
from lenet_edge.results.measurement import Measurement

_BINS = 140  # of the logarithm of the latency, over all that is shown
_MOST_ROWS = 40


def spreads(cells: Sequence[Measurement], styles: Styles, name: str) -> Chart:
    """Draw how the latencies of each cell are spread: a ridge each, its median and p99 marked.

    Args:
        cells: of one batch size, sorted by file.
        styles: of the targets.
        name: of the picture, unlike all others of the page.
    """
    cells = cells[:_MOST_ROWS]
    files = list(dict.fromkeys(one.artifact for one in cells))
    low = min(one.quantile_s(0.002) for one in cells) * 0.97
    high = max(max(one.quantile_s(0.98), one.p99_s or 0.0) for one in cells) * 1.03
    edges = np.geomspace(low, high, _BINS + 1)
    centres = np.sqrt(edges[:-1] * edges[1:]) * 1e6

    def draw(size: str, width: float) -> Any:
        wide = size == "wide"
        step = 1.0 if wide else 1.55  # a narrow page has each name above its ridge
        rows = len(cells) * step + len(files) * 0.9
        drawn = figure(width, 0.32 * rows + 0.7)
        axes = drawn.subplots()
        axes.grid(visible=False, axis="y")
        ticks, y = [], 0.0
        for file in files:
            axes.annotate(
                file, (0, y), xycoords=("axes fraction", "data"), xytext=(4, 2),
                textcoords="offset points", color=INK, fontweight="bold", va="bottom",
            )  # fmt: skip
            axes.axhline(y, color=GRID, linewidth=0.6)
            y -= 0.9 if wide else 0.8
            for one in (one for one in cells if one.artifact == file):
                y -= step - 1
                label = _on(one)
                if wide:
                    ticks.append((y, label))
                else:
                    axes.annotate(
                        label, (0, y), xycoords=("axes fraction", "data"), xytext=(4, 18),
                        textcoords="offset points", color=MUTED, va="bottom", fontsize=8.5,
                    )  # fmt: skip
                colour = styles.colour(one.target)
                counts, _ = np.histogram(one.latencies_s, edges)
                heights = 0.72 * counts / max(int(counts.max()), 1)
                shown = np.flatnonzero(counts)
                part = slice(max(shown[0] - 1, 0), shown[-1] + 2) if shown.size else slice(0, 0)
                axes.fill_between(
                    centres[part], y, y + heights[part], step="mid", color=colour, alpha=0.55,
                    linewidth=0,
                )  # fmt: skip
                axes.plot(
                    centres[part], np.full(len(centres[part]), y), color=colour, linewidth=0.6
                )
                axes.plot([one.p50_s * 1e6] * 2, [y - 0.06, y + 0.72], color=INK, linewidth=1.2)
                if one.p99_s is not None:
                    axes.plot(one.p99_s * 1e6, y, marker="|", color=INK, markersize=7)
                y -= 1.0
        axes.set_xscale("log")
        axes.set_xlim(low * 1e6, high * 1e6)
        axes.set_ylim(y + 0.6, 0.9)
        axes.set_yticks([at for at, _ in ticks], [label for _, label in ticks], va="bottom")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        microseconds(axes.xaxis, [low, high])
        axes.set_xlabel(f"latency at batch {cells[0].batch_size}, µs")
        return drawn

    return both(draw, name, f"how the latencies of {len(cells)} cells are spread")


def _on(one: Measurement) -> str:
    return f"{one.target} ×{one.num_threads}" if one.num_threads > 1 else one.target
