"""The pictures of the report: accuracy against latency, spread of latencies, batch scaling.

Each is drawn twice, for a wide page and for a phone, so that its text is readable on both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lenet_edge.measurement import Measurement
from lenet_edge.report.svg import (
    GRID,
    INK,
    MUTED,
    SURFACE,
    figure,
    series,
    to_svg,
)
from lenet_edge.results import BenchRun

_MARKS = "osD^vPX*"
_SIZES = (("wide", 8.4), ("narrow", 3.9))  # inches of 72 units
_BINS = 140  # of the logarithm of the latency, over all that is shown
_MOST_ROWS = 40  # of spreads


@dataclass(frozen=True)
class Chart:
    """One picture for a wide and for a narrow page, as <svg> elements."""

    wide: str
    narrow: str


@dataclass(frozen=True)
class Point:
    """One cell where accuracy and latency meet; `right` is a fraction of the images."""

    measurement: Measurement
    latency_s: float
    right: float
    on_front: bool
    chosen: bool


class Styles:
    """One colour and one mark for each target, the same in all pictures."""

    def __init__(self, targets: Sequence[str]) -> None:
        self.targets = tuple(sorted(set(targets)))

    def colour(self, target: str) -> str:
        """Return the colour of a target."""
        return series(self.targets.index(target))

    def mark(self, target: str) -> str:
        """Return matplotlib's marker of a target."""
        number = self.targets.index(target)
        return _MARKS[(number + number // len(_MARKS)) % len(_MARKS)]


def short_names(files: Sequence[str]) -> dict[str, str]:
    """Return the files' names without what they all begin with, such as "lenet_"."""
    prefix = files[0].partition("_")[0] + "_"
    shared = len(set(files)) > 1 and all(name.startswith(prefix) for name in files)
    return {name: name.removeprefix(prefix) if shared else name for name in files}


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
        _microseconds(axes.xaxis, [one.latency_s for one in points])
        axes.margins(x=0.09 if wide else 0.14, y=0.16)
        if np.ptp([one.right for one in points]) < 5e-4:  # a hundredth of a point is one image
            middle = 100 * float(np.mean([one.right for one in points]))
            axes.set_ylim(middle - 0.05, middle + 0.05)
        axes.yaxis.set_major_formatter("{x:.2f}")
        axes.set_xlabel(f"latency at batch {points[0].measurement.batch_size}, µs")
        axes.set_ylabel(f"{what}, % of the test images")
        _label(axes, points, names, largest, most)
        return drawn

    return _both(draw, name, f"{what} against latency of {len(points)} files on targets")


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
        _microseconds(axes.xaxis, [low, high])
        axes.set_xlabel(f"latency at batch {cells[0].batch_size}, µs")
        return drawn

    return _both(draw, name, f"how the latencies of {len(cells)} cells are spread")


def scaling(run: BenchRun, cells: Sequence[Measurement], styles: Styles, name: str) -> Chart:
    """Draw the latency of an image over the batch size, a panel a file, and what limits it.

    Args:
        run: knows the limit, where it was measured.
        cells: of all batch sizes.
        styles: of the targets.
        name: of the picture, unlike all others of the page.
    """
    files = list(dict.fromkeys(one.artifact for one in cells))
    batches = sorted({one.batch_size for one in cells})
    limits = {file: list(limits_s(run, [c for c in cells if c.artifact == file])) for file in files}
    values = [one.p50_s / one.batch_size for one in cells]
    values += [limit for found in limits.values() for _, limit in found]

    def draw(size: str, width: float) -> Any:
        columns = min(3 if size == "wide" else 2, len(files))
        rows = -(-len(files) // columns)
        drawn = figure(width, 2.25 * rows + 0.35)
        grid = drawn.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, file in zip(grid.flat, files, strict=False):
            _panel(axes, [one for one in cells if one.artifact == file], styles)
            axes.set_title(file if size == "wide" else short_names(files)[file], color=INK)
            for number, (threads, limit) in enumerate(limits[file]):
                axes.axhline(limit * 1e6, color=INK, linewidth=1, linestyle=(0, (2, 2)))
                which = "float32 limit" if size == "wide" else "limit"
                more = f" ×{threads}" if threads > 1 else ""
                axes.annotate(
                    f"{which} {limit * 1e6:.3g}{more}", (1 - number % 2, limit * 1e6),
                    xycoords=("axes fraction", "data"), xytext=(2 if number % 2 else -2, -2),
                    textcoords="offset points", va="top", ha="left" if number % 2 else "right",
                    color=INK, fontsize=8,
                )  # fmt: skip
        for axes in list(grid.flat)[len(files) :]:
            axes.set_axis_off()
        first = grid[0, 0]
        first.set_xscale("log")
        first.set_yscale("log")
        first.set_ylim(min(values) * 1e6 * 0.62, max(values) * 1e6 * 1.35)
        first.set_xticks(batches, [f"{batch:,}" for batch in batches])
        first.xaxis.minorticks_off()
        _microseconds(first.yaxis, values)
        drawn.supxlabel("images in a batch", fontsize=9, color=MUTED)
        drawn.supylabel("µs for an image", fontsize=9, color=MUTED)
        return drawn

    return _both(draw, name, f"latency of an image over the batch size, for {len(files)} files")


def _panel(axes: Any, cells: Sequence[Measurement], styles: Styles) -> None:
    for target, threads in sorted({(one.target, one.num_threads) for one in cells}):
        line = sorted(
            (one.batch_size, one.p50_s / one.batch_size * 1e6)
            for one in cells
            if (one.target, one.num_threads) == (target, threads)
        )
        axes.plot(
            *zip(*line, strict=True), color=styles.colour(target), marker=styles.mark(target),
            markersize=5, linewidth=1.6, markeredgecolor=SURFACE, markeredgewidth=0.6,
            linestyle="-" if threads == 1 else "--",
        )  # fmt: skip


def limits_s(run: BenchRun, cells: Sequence[Measurement]) -> Iterator[tuple[int, float]]:
    """Give the threads and the least seconds that float32 arithmetic on an image can take here.

    It is the multiply-adds of the file over those a second that a matrix product reached on the
    same machine; nothing where the results do not hold both.
    """
    for threads in sorted({one.num_threads for one in cells}):
        peak, macs = run.peak_macs_per_s.get(threads), run.macs.get(cells[0].artifact_sha256)
        if peak and macs:
            yield threads, macs / peak


def _on(one: Measurement) -> str:
    return f"{one.target} ×{one.num_threads}" if one.num_threads > 1 else one.target


def _microseconds(axis: Any, seconds: Sequence[float]) -> None:
    """Label a logarithmic axis with plain numbers, and enough of them."""
    from matplotlib.ticker import LogLocator

    few = max(seconds) > 60 * min(seconds)
    axis.set_major_locator(LogLocator(subs=(1, 3) if few else (1, 2, 5)))
    axis.set_major_formatter(lambda value, place: f"{value:,.4g}")
    axis.set_minor_formatter(lambda value, place: "")


def _both(draw: Callable[[str, float], Any], name: str, description: str) -> Chart:
    return Chart(
        *(to_svg(draw(size, width), f"{name}-{size}", description) for size, width in _SIZES)
    )
