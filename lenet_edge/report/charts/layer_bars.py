"""Chart of the time of each layer of a pair."""

from __future__ import annotations

from typing import Any

from lenet_edge.report.charts.common import Chart, draw_both_sizes
from lenet_edge.report.charts.svg import INK, MUTED, figure, series_color
from lenet_edge.results.formatting import end_of_name, microseconds
from lenet_edge.results.layer_times import LayerTimes

_MAX_LAYERS = 60  # bars; of more layers, the largest are drawn
_NAME = {"wide": 44, "narrow": 20}  # characters


def draw_layer_bars(times: LayerTimes, name: str) -> Chart:
    """Draw one bar for each layer, in the order of execution, and bars for the rest.

    Args:
        times: the times of the layers.
        name: prefix of the element ids; unique on the page.
    """
    largest = sorted(times.layers, key=lambda layer: -layer.time_s)[:_MAX_LAYERS]
    bars = [(layer.name, layer.time_s, INK) for layer in times.layers if layer in largest]
    bars += [(rest, max(0.0, seconds), MUTED) for rest, seconds in times.rests]

    def draw(size: str, width: float) -> Any:
        drawn = figure(width, 0.24 * len(bars) + 0.6)
        axes = drawn.subplots()
        axes.grid(visible=False, axis="y")
        rows = range(len(bars))
        seconds = [each[1] for each in bars]
        colors = [series_color(0) if color == INK else MUTED for _, _, color in bars]
        axes.barh(rows, [each * 1e6 for each in seconds], 0.7, color=colors)
        axes.set_yticks(rows, [end_of_name(each[0], _NAME[size]) for each in bars])
        axes.invert_yaxis()
        for row, each in zip(rows, seconds, strict=True):
            text = f"{microseconds(each)}  {times.share(each):.0%}"
            axes.annotate(
                text, (each * 1e6, row), xytext=(3, 0), textcoords="offset points",
                va="center", fontsize=8, color=INK,
            )  # fmt: skip
        axes.set_xlim(0, max(seconds, default=0.0) * 1.25e6 or 1.0)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"µs in a call at batch {times.batch_size}")
        return drawn

    return draw_both_sizes(draw, name, f"time of each layer of {times.artifact}")
