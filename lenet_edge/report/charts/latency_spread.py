"""Chart of the distribution of the latencies of each cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.report.charts.common import (
    TargetStyles,
    label_margin,
    label_microseconds,
    mark_of_cell,
)
from lenet_edge.report.charts.svg import (
    GRID,
    INK,
    Mark,
    mark_id,
    page_figure,
    page_style,
    to_svg,
)
from lenet_edge.results.formatting import end_of_name, plain_number, target_and_threads
from lenet_edge.results.measurement import Measurement

_BINS = 140  # of the logarithm of the latency, over the whole axis
_MAX_CELLS = 40
_MAX_LABEL = 24  # characters


@page_style()
def draw_latency_spread(cells: Sequence[Measurement], styles: TargetStyles, name: str) -> str:
    """Draw one histogram per cell, with its median and its 99th percentile.

    Args:
        cells: measurements at one batch size, sorted by file.
        styles: styles of the targets.
        name: prefix of the element ids; unique on the page.
    """
    cells = cells[:_MAX_CELLS]
    files = list(dict.fromkeys(cell.artifact for cell in cells))
    low = min(cell.quantile_s(0.002) for cell in cells) * 0.97
    high = max(max(cell.quantile_s(0.98), cell.p99_s or 0.0) for cell in cells) * 1.03
    edges = np.geomspace(low, high, _BINS + 1)
    labels = [end_of_name(target_and_threads(c.target, c.num_threads), _MAX_LABEL) for c in cells]
    num_rows = len(cells) + len(files) * 0.9
    drawn = page_figure(0.24 * num_rows + 0.5, left=label_margin(labels))
    axes = drawn.subplots()
    axes.grid(visible=False, axis="y")
    ticks: list[float] = []
    marks: list[Mark] = []
    y = 0.0
    for file in files:
        _file_heading(axes, file, y)
        y -= 0.9
        for cell in (cell for cell in cells if cell.artifact == file):
            ticks.append(y)
            _histogram(axes, cell, edges, y, styles.color(cell.target), mark_id(len(marks)))
            figures = f"median {plain_number(cell.p50_s * 1e6)} µs"
            if cell.p99_s is not None:
                figures += f", 99th percentile {plain_number(cell.p99_s * 1e6)} µs"
            marks.append(mark_of_cell(cell, figures))
            y -= 1.0
    axes.set_xscale("log")
    axes.set_xlim(low * 1e6, high * 1e6)
    axes.set_ylim(y + 0.6, 0.9)
    in_order = [label for file in files for cell, label in zip(cells, labels, strict=True)
                if cell.artifact == file]  # fmt: skip
    axes.set_yticks(ticks, in_order, va="bottom")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    label_microseconds(axes.xaxis, [low, high])
    axes.set_xlabel(f"latency at batch {cells[0].batch_size}, µs")
    return to_svg(drawn, name, f"distribution of the latencies of {len(cells)} cells", marks)


def _file_heading(axes: Any, file: str, y: float) -> None:
    axes.annotate(
        file, (0, y), xycoords=("axes fraction", "data"), xytext=(4, 2),
        textcoords="offset points", color=INK, fontweight="bold", va="bottom",
    )  # fmt: skip
    axes.axhline(y, color=GRID, linewidth=0.6)


def _histogram(
    axes: Any, cell: Measurement, edges: npt.NDArray[np.float64], y: float, color: str, gid: str
) -> None:
    """Draw the histogram of a cell's latencies on a base line at `y`."""
    centers = np.sqrt(edges[:-1] * edges[1:]) * 1e6
    counts, _ = np.histogram(cell.latencies_s, edges)
    heights = 0.72 * counts / max(int(counts.max()), 1)
    filled = np.flatnonzero(counts)
    part = slice(max(filled[0] - 1, 0), filled[-1] + 2) if filled.size else slice(0, 0)
    axes.fill_between(
        centers[part], y, y + heights[part], step="mid", color=color, alpha=0.55, linewidth=0,
        gid=gid,
    )  # fmt: skip
    axes.plot(centers[part], np.full(len(centers[part]), y), color=color, linewidth=0.6)
    axes.plot([cell.p50_s * 1e6] * 2, [y - 0.06, y + 0.72], color=INK, linewidth=1.2)
    if cell.p99_s is not None:
        axes.plot(cell.p99_s * 1e6, y, marker="|", color=INK, markersize=7)
