"""Accuracy against latency, the bytes as area."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lenet_edge.report.charts.common import Chart, Styles, both, microseconds, short_names
from lenet_edge.report.charts.svg import INK, MUTED, SURFACE, figure
from lenet_edge.results.measurement import Measurement


@dataclass(frozen=True)
class Point:
    """One cell where accuracy and latency meet; `right` is a fraction of the images."""

    measurement: Measurement
    latency_s: float
    right: float
    on_front: bool
    chosen: bool


def pareto(points: Sequence[Point], styles: Styles, what: str, name: str) -> Chart:
    """Draw accuracy over latency, the bytes as area, the front as a line, the choice ringed.

    Args:
        points: the cells of one batch size.
        styles: of the targets.
        what: is right of the images: "accuracy" or "agreement".
        name: of the picture, unlike all others of the page.
    """
    names = short_names([one.measurement.artifact for one in points])
    most = max(one.measurement.size_bytes for one in points)

    def draw(size: str, width: float) -> Any:
        wide = size == "wide"
        drawn = figure(width, 4.2 if wide else 4.0)
        axes = drawn.subplots()
        largest = 620 if wide else 380
        front = sorted((one.latency_s, one.right) for one in points if one.on_front)
        axes.plot(
            [x * 1e6 for x, _ in front], [100 * y for _, y in front], drawstyle="steps-post",
            color=MUTED, linewidth=1, linestyle=(0, (4, 3)), zorder=1,
        )  # fmt: skip
        for one in sorted(points, key=lambda one: -one.measurement.size_bytes):
            area = largest * one.measurement.size_bytes / most
            place = ([one.latency_s * 1e6], [100 * one.right])
            target = one.measurement.target
            axes.scatter(
                *place, s=area, color=styles.colour(target), marker=styles.mark(target),
                alpha=0.8, edgecolors=SURFACE, linewidths=1.2, zorder=3,
            )  # fmt: skip
            if one.chosen:
                axes.scatter(
                    *place, s=(area**0.5 + 9) ** 2, facecolors="none", edgecolors=INK,
                    linewidths=1.4, zorder=4,
                )  # fmt: skip
        axes.set_xscale("log")
        microseconds(axes.xaxis, [one.latency_s for one in points])
        axes.margins(x=0.09 if wide else 0.14, y=0.16)
        if np.ptp([one.right for one in points]) < 5e-4:  # a hundredth of a point is one image
            middle = 100 * float(np.mean([one.right for one in points]))
            axes.set_ylim(middle - 0.05, middle + 0.05)
        axes.yaxis.set_major_formatter("{x:.2f}")
        axes.set_xlabel(f"latency at batch {points[0].measurement.batch_size}, µs")
        axes.set_ylabel(f"{what}, % of the test images")
        _label(axes, points, names, largest, most)
        return drawn

    return both(draw, name, f"{what} against latency of {len(points)} files on targets")


def _label(
    axes: Any, points: Sequence[Point], names: dict[str, str], largest: float, most: int
) -> None:
    """Name as many points as there is room for: the choice, the front, then the fastest."""
    axes.figure.draw_without_rendering()  # so that places are known
    inside, scale = axes.get_window_extent(), axes.figure.dpi / 72
    centres = [axes.transData.transform((p.latency_s * 1e6, 100 * p.right)) for p in points]
    radii = [(largest * p.measurement.size_bytes / most) ** 0.5 / 2 for p in points]
    taken = [
        (x - r * scale, y - r * scale, x + r * scale, y + r * scale)
        for (x, y), r in zip(centres, radii, strict=True)
    ]
    order = sorted(
        range(len(points)),
        key=lambda i: (not points[i].chosen, not points[i].on_front, points[i].latency_s),
    )
    for index in order:
        one, (x, y) = points[index], centres[index]
        radius = radii[index] + (6 if one.chosen else 2)
        several = one.measurement.num_threads
        text = names[one.measurement.artifact] + (f" ×{several}" if several > 1 else "")
        width, height = 5.2 * len(text) * scale, 11 * scale
        for dx, dy, align in (
            (0, radius + 2, "center"), (0, -radius - 11, "center"), (radius + 2, -4, "left"),
            (-radius - 2, -4, "right"),
        ):  # fmt: skip
            left = x + dx * scale - {"center": width / 2, "left": 0, "right": width}[align]
            box = (left, y + dy * scale, left + width, y + dy * scale + height)
            fits = (
                inside.x0 <= box[0] and box[2] <= inside.x1
                and inside.y0 <= box[1] and box[3] <= inside.y1
            )  # fmt: skip
            if fits and not any(_overlap(box, other) for other in taken):
                axes.annotate(
                    text, (one.latency_s * 1e6, 100 * one.right), xytext=(dx, dy),
                    textcoords="offset points", ha=align, va="bottom", fontsize=8.5, color=INK,
                    fontweight="bold" if one.chosen else "normal", zorder=5,
                )  # fmt: skip
                taken.append(box)
                break


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
