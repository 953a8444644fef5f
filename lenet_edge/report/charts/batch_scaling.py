"""The latency of an image over the batch size, and what limits it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lenet_edge.report.charts.common import Chart, Styles, both, microseconds, short_names
from lenet_edge.report.charts.svg import INK, MUTED, SURFACE, figure
from lenet_edge.results.measurement import Measurement
from lenet_edge.results.result_file import BenchRun


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
        for place in range(len(files), rows * columns):
            grid.flat[place].set_axis_off()
            grid.flat[place - columns].tick_params(labelbottom=True)
        first = grid[0, 0]
        first.set_xscale("log")
        first.set_yscale("log")
        first.set_ylim(min(values) * 1e6 * 0.62, max(values) * 1e6 * 1.35)
        first.set_xticks(batches, [f"{batch:,}" for batch in batches])
        first.xaxis.minorticks_off()
        microseconds(first.yaxis, values)
        drawn.supxlabel("images in a batch", fontsize=9, color=MUTED)
        drawn.supylabel("µs for an image", fontsize=9, color=MUTED)
        return drawn

    return both(draw, name, f"latency of an image over the batch size, for {len(files)} files")


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
