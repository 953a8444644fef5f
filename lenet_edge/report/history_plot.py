"""Plot of a history as a PNG or SVG file: one panel for each series."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lenet_edge.errors import DataError
from lenet_edge.report.charts import svg
from lenet_edge.report.history import Series, is_worse
from lenet_edge.support.files import atomic_write
from lenet_edge.support.printable import make_printable

_MOST = 60  # panels; series with change points come first
_COLUMNS = 3
_MOST_LABELS = 8
_SCALES = {"latency": (1e6, "µs"), "accuracy": (100.0, "%"), "instructions": (1.0, "")}


@svg.default_style()
def plot_history(series: Sequence[Series], path: Path) -> None:
    """Plot each figure over the commits, with its intervals and its change points.

    Args:
        series: the series. Those of a single commit are left out. Those with change points come
            first, and at most 60 are drawn.
        path: the file to write, .png or .svg.

    Raises:
        DataError: the suffix is neither .png nor .svg, or no series has two commits.
        MissingPackageError: matplotlib is not installed.
    """
    if path.suffix.lower() not in (".png", ".svg"):
        raise DataError(f"{path}: a plot is a .png or .svg file; change the suffix")
    drawn = [each for each in series if len(each.points) > 1]
    if not drawn:
        raise DataError("no figure was measured at two commits, so there is nothing to plot")
    drawn = sorted(drawn, key=lambda each: not each.changes)[:_MOST]
    rows = -(-len(drawn) // _COLUMNS)
    figure = svg.figure(5 * _COLUMNS, 2.2 * rows)
    grid = figure.subplots(rows, _COLUMNS, squeeze=False)
    for axes in grid.flat[len(drawn) :]:
        axes.set_axis_off()
    for axes, each in zip(grid.flat, drawn, strict=False):
        _panel(axes, each)
    with warnings.catch_warnings(), atomic_write(path) as temporary:
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(temporary, format=path.suffix[1:].lower())


def _panel(axes: Any, series: Series) -> None:
    scale, unit = _SCALES.get(series.metric, (1.0, "bytes"))
    values = [scale * point.value for point in series.points]
    errors = [value * point.half_width for value, point in zip(values, series.points, strict=True)]
    axes.errorbar(
        range(len(values)), values, yerr=errors if any(errors) else None, marker=".",
        linewidth=1, color="tab:blue",
    )  # fmt: skip
    for change in series.changes:
        axes.axvline(
            change.index - 0.5, color="tab:red" if is_worse(series.metric, change) else "tab:green",
            linestyle="-" if change.is_confirmed else ":", linewidth=1.2,
        )  # fmt: skip
    every = -(-len(values) // _MOST_LABELS)
    labels = [point.label for point in series.points]
    axes.set_xticks(
        range(0, len(values), every), labels[::every], rotation=30, ha="right", fontsize=7,
        parse_math=False,
    )  # fmt: skip
    axes.ticklabel_format(axis="y", useOffset=False, style="plain")
    axes.set_ylabel(unit, fontsize=8)
    if unit == "%":
        axes.set_ylim(top=min(100.0, axes.get_ylim()[1]))
    axes.grid(alpha=0.3)
    lines = (f"{series.cell}: {series.metric}", series.machine)
    axes.set_title("\n".join(map(make_printable, lines)), fontsize=7, parse_math=False)
