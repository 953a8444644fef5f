"""Chart of accuracy against latency, with the file size as area."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lenet_edge.report.charts.common import (
    TargetStyles,
    label_microseconds,
    mark_of_cell,
    short_names,
)
from lenet_edge.report.charts.svg import (
    INK,
    MUTED,
    SURFACE,
    Mark,
    mark_id,
    page_figure,
    page_style,
    to_svg,
)
from lenet_edge.results.formatting import latency, percent
from lenet_edge.results.measurement import Measurement

_MAX_AREA = 360


@dataclass(frozen=True)
class Point:
    """One cell in the chart.

    Attributes:
        measurement: latencies of the cell.
        latency_s: latency that ranks the cell.
        right: accuracy, or agreement with the reference, as a fraction of the images.
        on_front: True if no other cell is better in both figures.
        chosen: True if the cell is recommended.
    """

    measurement: Measurement
    latency_s: float
    right: float
    on_front: bool
    chosen: bool


@page_style()
def draw_accuracy_latency(
    points: Sequence[Point], styles: TargetStyles, quantity: str, name: str
) -> str:
    """Draw accuracy against latency, with the Pareto front as a line and a ring on the choice.

    Args:
        points: cells of one batch size.
        styles: styles of the targets.
        quantity: meaning of `Point.right`: "accuracy" or "agreement".
        name: prefix of the element ids; unique on the page.
    """
    names = short_names([point.measurement.artifact for point in points])
    max_bytes = max(point.measurement.size_bytes for point in points)
    drawn = page_figure(3.6, left=0.62)
    axes = drawn.subplots()
    front = sorted((point.latency_s, point.right) for point in points if point.on_front)
    axes.plot(
        [x * 1e6 for x, _ in front], [100 * y for _, y in front], drawstyle="steps-post",
        color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1,
    )  # fmt: skip
    marks: list[Mark] = []
    for point in sorted(points, key=lambda point: -point.measurement.size_bytes):
        cell = point.measurement
        area = _MAX_AREA * cell.size_bytes / max_bytes
        position = ([point.latency_s * 1e6], [100 * point.right])
        axes.scatter(
            *position, s=area, color=styles.color(cell.target), marker=styles.mark(cell.target),
            alpha=0.8, edgecolors=SURFACE, linewidths=1.2, zorder=3, clip_on=False,
            gid=mark_id(len(marks)),
        )  # fmt: skip
        figures = (latency(point.latency_s), f"{quantity} {percent(point.right)} %", cell.size)
        marks.append(mark_of_cell(cell, *figures))
        if point.chosen:
            axes.scatter(
                *position, s=(area**0.5 + 9) ** 2, facecolors="none", edgecolors=INK,
                linewidths=1.4, zorder=4, clip_on=False,
            )  # fmt: skip
    axes.set_xscale("log")
    label_microseconds(axes.xaxis, [point.latency_s for point in points])
    axes.margins(x=0.15, y=0.16)
    if np.ptp([point.right for point in points]) < 5e-4:
        # Nearly equal accuracies: a tighter axis would exaggerate single images.
        middle = 100 * float(np.mean([point.right for point in points]))
        axes.set_ylim(middle - 0.05, middle + 0.05)
    axes.set_ylim(top=min(100.0, axes.get_ylim()[1]))
    axes.yaxis.set_major_formatter("{x:.2f}")
    axes.set_xlabel(f"latency at batch {points[0].measurement.batch_size}, µs")
    axes.set_ylabel(f"{quantity}, % of the test images")
    _label_points(axes, points, names, max_bytes)
    return to_svg(drawn, name, f"{quantity} against latency of {len(points)} cells", marks)


def _label_points(
    axes: Any, points: Sequence[Point], names: dict[str, str], max_bytes: int
) -> None:
    """Label points without overlap: first the choice, then the front, then the fastest.

    Points whose label does not fit have only their text under the pointer.
    """
    frame, scale = axes.get_window_extent(), axes.figure.dpi / 72
    centers = [axes.transData.transform((p.latency_s * 1e6, 100 * p.right)) for p in points]
    radii = [(_MAX_AREA * p.measurement.size_bytes / max_bytes) ** 0.5 / 2 for p in points]
    occupied = [
        (x - r * scale, y - r * scale, x + r * scale, y + r * scale)
        for (x, y), r in zip(centers, radii, strict=True)
    ]
    order = sorted(
        range(len(points)),
        key=lambda i: (not points[i].chosen, not points[i].on_front, points[i].latency_s),
    )
    for index in order:
        point, (x, y) = points[index], centers[index]
        radius = radii[index] + (6 if point.chosen else 2)
        threads = point.measurement.num_threads
        text = names[point.measurement.artifact] + (f" ×{threads}" if threads > 1 else "")
        width, height = 5.2 * len(text) * scale, 11 * scale
        fallback = None
        for dx, dy, align in (
            (0, radius + 2, "center"), (0, -radius - 11, "center"), (radius + 2, -4, "left"),
            (-radius - 2, -4, "right"), (radius, radius, "left"), (radius, -radius - 11, "left"),
            (-radius, radius, "right"), (-radius, -radius - 11, "right"),
        ):  # fmt: skip
            left = x + dx * scale - {"center": width / 2, "left": 0, "right": width}[align]
            box = (left, y + dy * scale, left + width, y + dy * scale + height)
            is_inside = (
                frame.x0 <= box[0] and box[2] <= frame.x1
                and frame.y0 <= box[1] and box[3] <= frame.y1
            )  # fmt: skip
            if is_inside and not any(_overlap(box, other) for other in occupied):
                break
            if is_inside and point.chosen:  # its label may cover a mark
                fallback = fallback or (dx, dy, align, box)
        else:
            if not fallback:
                continue
            dx, dy, align, box = fallback
        axes.annotate(
            text, (point.latency_s * 1e6, 100 * point.right), xytext=(dx, dy),
            textcoords="offset points", ha=align, va="bottom", fontsize=8.5, color=INK,
            fontweight="bold" if point.chosen else "normal", zorder=5,
        )  # fmt: skip
        occupied.append(box)


def _overlap(box: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Return True if two boxes (left, bottom, right, top) overlap."""
    return box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
