"""Chart of the latency per image against the batch size, with the limit of the machine."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from lenet_edge.report.charts.common import (
    TargetStyles,
    mark_of_cell,
    short_names,
)
from lenet_edge.report.charts.svg import (
    INK,
    MUTED,
    SURFACE,
    WIDTH,
    Mark,
    mark_id,
    page_figure,
    page_style,
    to_svg,
)
from lenet_edge.results.formatting import end_of_name, latency, plain_number
from lenet_edge.results.measurement import Measurement
from lenet_edge.results.result_file import BenchRun

_COLUMNS = 3


@page_style()
def draw_batch_scaling(
    run: BenchRun, cells: Sequence[Measurement], styles: TargetStyles, name: str
) -> str:
    """Draw the latency per image against the batch size, one panel per file.

    Args:
        run: the results, with the limit of the machine if it was measured.
        cells: measurements at all batch sizes.
        styles: styles of the targets.
        name: prefix of the element ids; unique on the page.
    """
    files = list(dict.fromkeys(cell.artifact for cell in cells))
    names = short_names(files)
    batches = sorted({cell.batch_size for cell in cells})
    limits = {
        file: list(float32_limits_s(run, [cell for cell in cells if cell.artifact == file]))
        for file in files
    }
    values = [cell.p50_s / cell.batch_size * 1e6 for cell in cells]
    values += [limit * 1e6 for of_file in limits.values() for _, limit in of_file]
    columns = min(_COLUMNS, len(files))
    rows = -(-len(files) // columns)
    height = 1.45 * rows + 0.7
    drawn = page_figure(height, left=0.5, bottom=0.45, top=0.46)
    drawn.subplots_adjust(hspace=0.35, wspace=0.12)
    # All panels have the same axes. Shared axes would make matplotlib search each other's labels.
    scale = _log_axis(values)
    marks: list[Mark] = []
    for number, file in enumerate(files):
        column = number % columns
        axes = drawn.add_subplot(rows, columns, number + 1)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.minorticks_off()
        is_lowest = number + columns >= len(files)
        axes.set_xticks(batches, [f"{batch:,}" if is_lowest else "" for batch in batches])
        axes.set_yticks(scale, [plain_number(tick) if column == 0 else "" for tick in scale])
        axes.tick_params(length=0)
        axes.set_ylim(min(values) * 0.62, max(values) * 1.35)
        axes.set_title(end_of_name(names[file], 44 // columns * 2), color=INK, pad=3)
        _draw_lines(axes, [cell for cell in cells if cell.artifact == file], styles, marks)
        lowest = min(cell.p50_s / cell.batch_size for cell in cells if cell.artifact == file)
        for place, (threads, limit) in enumerate(limits[file]):
            is_above = lowest < limit  # away from the lines
            axes.axhline(limit * 1e6, color=INK, linewidth=1, linestyle=(0, (2, 2)))
            suffix = f" ×{threads}" if threads > 1 else ""
            axes.annotate(
                f"limit {plain_number(limit * 1e6)}{suffix}", (1 - place % 2, limit * 1e6),
                xycoords=("axes fraction", "data"), textcoords="offset points",
                xytext=(2 if place % 2 else -2, 2 if is_above else -2), color=INK, fontsize=8,
                va="bottom" if is_above else "top", ha="left" if place % 2 else "right",
            )  # fmt: skip
    drawn.text(0.5 / WIDTH, 0.06 / height, "batch size", color=MUTED, va="bottom")
    drawn.text(0, 1 - 0.04 / height, "µs per image", color=MUTED, va="top")
    description = f"latency per image against the batch size, for {len(files)} files"
    return to_svg(drawn, name, description, marks)


def _log_axis(values: Sequence[float]) -> list[float]:
    """Return the ticks of a logarithmic axis: powers of ten, with steps in a small range."""
    low, high = min(values), max(values)
    steps = (1,) if high > 300 * low else (1, 3) if high > 20 * low else (1, 2, 5)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10.0**power for power in powers for step in steps]


def _draw_lines(
    axes: Any, cells: Sequence[Measurement], styles: TargetStyles, marks: list[Mark]
) -> None:
    """Draw a line for each target and number of threads, and append its marks."""
    for target, threads in sorted({(cell.target, cell.num_threads) for cell in cells}):
        line = sorted(
            (cell for cell in cells if (cell.target, cell.num_threads) == (target, threads)),
            key=lambda cell: cell.batch_size,
        )
        color = styles.color(target)
        x = [cell.batch_size for cell in line]
        y = [cell.p50_s / cell.batch_size * 1e6 for cell in line]
        axes.plot(x, y, color=color, linewidth=1.4, linestyle="-" if threads == 1 else "--")
        for cell, per_image in zip(line, y, strict=True):
            axes.plot(
                [cell.batch_size], [per_image], color=color, marker=styles.mark(target),
                markersize=5, markeredgecolor=SURFACE, markeredgewidth=0.6, gid=mark_id(len(marks)),
            )  # fmt: skip
            marks.append(mark_of_cell(cell, f"{latency(per_image / 1e6)} per image"))


def float32_limits_s(run: BenchRun, cells: Sequence[Measurement]) -> Iterator[tuple[int, float]]:
    """Yield each thread count with the shortest time for an image in float32, in seconds.

    The time is the number of multiply-adds of the file, divided by the multiply-adds per second
    that a matrix product reached on the same machine. Thread counts without both are left out.

    Args:
        run: the results.
        cells: measurements of one file.
    """
    for threads in sorted({cell.num_threads for cell in cells}):
        peak, macs = run.peak_macs_per_s.get(threads), run.macs.get(cells[0].artifact_sha256)
        if peak and macs:
            yield threads, macs / peak
