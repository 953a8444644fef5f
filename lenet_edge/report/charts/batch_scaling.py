"""Chart of the latency per image against the batch size, with the limit of the machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lenet_edge.report.charts.common import (
    Chart,
    TargetStyles,
    draw_both_sizes,
    label_microseconds,
    short_names,
)
from lenet_edge.report.charts.svg import INK, MUTED, SURFACE, figure
from lenet_edge.results.measurement import Measurement
from lenet_edge.results.result_file import BenchRun


def draw_batch_scaling(
    run: BenchRun, cells: Sequence[Measurement], styles: TargetStyles, name: str
) -> Chart:
    """Draw the latency per image against the batch size, one panel per file.

    Args:
        run: the results, with the limit of the machine if it was measured.
        cells: measurements at all batch sizes.
        styles: styles of the targets.
        name: prefix of the element ids; unique on the page.
    """
    files = list(dict.fromkeys(cell.artifact for cell in cells))
    batches = sorted({cell.batch_size for cell in cells})
    limits = {
        file: list(float32_limits_s(run, [cell for cell in cells if cell.artifact == file]))
        for file in files
    }
    values = [cell.p50_s / cell.batch_size for cell in cells]
    values += [limit for of_file in limits.values() for _, limit in of_file]

    def draw(size: str, width: float) -> Any:
        columns = min(3 if size == "wide" else 2, len(files))
        rows = -(-len(files) // columns)
        drawn = figure(width, 2.25 * rows + 0.35)
        grid = drawn.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, file in zip(grid.flat, files, strict=False):
            _panel(axes, [cell for cell in cells if cell.artifact == file], styles)
            axes.set_title(file if size == "wide" else short_names(files)[file], color=INK)
            for number, (threads, limit) in enumerate(limits[file]):
                axes.axhline(limit * 1e6, color=INK, linewidth=1, linestyle=(0, (2, 2)))
                label = "float32 limit" if size == "wide" else "limit"
                suffix = f" ×{threads}" if threads > 1 else ""
                axes.annotate(
                    f"{label} {limit * 1e6:.3g}{suffix}", (1 - number % 2, limit * 1e6),
                    xycoords=("axes fraction", "data"), xytext=(2 if number % 2 else -2, -2),
                    textcoords="offset points", va="top", ha="left" if number % 2 else "right",
                    color=INK, fontsize=8,
                )  # fmt: skip
        for empty in range(len(files), rows * columns):
            grid.flat[empty].set_axis_off()
            grid.flat[empty - columns].tick_params(labelbottom=True)
        first = grid[0, 0]
        first.set_xscale("log")
        first.set_yscale("log")
        first.set_ylim(min(values) * 1e6 * 0.62, max(values) * 1e6 * 1.35)
        first.set_xticks(batches, [f"{batch:,}" for batch in batches])
        first.xaxis.minorticks_off()
        label_microseconds(first.yaxis, values)
        drawn.supxlabel("batch size", fontsize=9, color=MUTED)
        drawn.supylabel("µs per image", fontsize=9, color=MUTED)
        return drawn

    return draw_both_sizes(
        draw, name, f"latency per image against the batch size, for {len(files)} files"
    )


def _panel(axes: Any, cells: Sequence[Measurement], styles: TargetStyles) -> None:
    for target, threads in sorted({(cell.target, cell.num_threads) for cell in cells}):
        line = sorted(
            (cell.batch_size, cell.p50_s / cell.batch_size * 1e6)
            for cell in cells
            if (cell.target, cell.num_threads) == (target, threads)
        )
        axes.plot(
            *zip(*line, strict=True), color=styles.color(target), marker=styles.mark(target),
            markersize=5, linewidth=1.6, markeredgecolor=SURFACE, markeredgewidth=0.6,
            linestyle="-" if threads == 1 else "--",
        )  # fmt: skip


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
