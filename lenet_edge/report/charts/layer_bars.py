"""Chart of the time of each layer of a pair."""

from __future__ import annotations

from lenet_edge.report.charts.common import label_margin
from lenet_edge.report.charts.svg import (
    INK,
    MUTED,
    Mark,
    mark_id,
    page_figure,
    page_style,
    series_color,
    to_svg,
)
from lenet_edge.results.formatting import end_of_name, microseconds
from lenet_edge.results.layer_times import LayerTimes

_MAX_LAYERS = 60  # bars; of more layers, the largest are drawn
_MAX_NAME = 26  # characters


@page_style()
def draw_layer_bars(times: LayerTimes, name: str) -> str:
    """Draw one bar for each layer, in the order of execution, and bars for the rest.

    Args:
        times: the times of the layers.
        name: prefix of the element ids; unique on the page.
    """
    largest = sorted(times.layers, key=lambda layer: -layer.time_s)[:_MAX_LAYERS]
    bars = [(layer.name, layer.time_s, series_color(0)) for layer in times.layers
            if layer in largest]  # fmt: skip
    bars += [(rest, max(0.0, seconds), MUTED) for rest, seconds in times.rests]
    labels = [end_of_name(each[0], _MAX_NAME) for each in bars]
    drawn = page_figure(0.24 * len(bars) + 0.6, left=label_margin(labels))
    axes = drawn.subplots()
    axes.grid(visible=False, axis="y")
    marks = []
    for row, (layer, seconds, color) in enumerate(bars):
        axes.barh([row], [seconds * 1e6], 0.7, color=color)[0].set_gid(mark_id(row))
        text = f"{microseconds(seconds)}  {times.share(seconds):.0%}"
        axes.annotate(
            text, (seconds * 1e6, row), xytext=(3, 0), textcoords="offset points",
            va="center", fontsize=8, color=INK,
        )  # fmt: skip
        figures = f"{microseconds(seconds)} µs, {times.share(seconds):.1%} of a call"
        marks.append(Mark(f"{layer}\n{figures}", {"layer": layer}))
    axes.set_yticks(range(len(bars)), labels)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    longest = max((each[1] for each in bars), default=0.0)
    axes.set_xlim(0, longest * 1.25e6 or 1.0)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(lambda value, position: f"{value:,.10g}")
    axes.set_xlabel(f"µs in a call at batch {times.batch_size}")
    return to_svg(drawn, name, f"time of each layer of {times.artifact}", marks)
