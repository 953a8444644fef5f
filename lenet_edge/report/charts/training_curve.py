"""Chart of the loss and the error of a training over its epochs."""

from __future__ import annotations

import math

from lenet_edge.report.charts.svg import (
    INK,
    SURFACE,
    Mark,
    mark_id,
    page_figure,
    page_style,
    series_color,
    to_svg,
)
from lenet_edge.report.training_section import TrainingCurve
from lenet_edge.results.formatting import plain_number

_MAX_MARKS = 60  # of more epochs, every second, third and so on has a mark


@page_style()
def draw_training_curve(curve: TrainingCurve, name: str) -> str:
    """Draw the loss and the error against the epochs, one panel each.

    Args:
        curve: the training, with one epoch or more.
        name: prefix of the element ids; unique on the page.
    """
    from matplotlib.ticker import MaxNLocator

    drawn = page_figure(2.6, left=0.45, bottom=0.45, top=0.3)
    drawn.subplots_adjust(wspace=0.22)
    numbers = [epoch.number for epoch in curve.epochs]
    step = math.ceil(len(numbers) / _MAX_MARKS)
    figures = {
        "loss": [epoch.loss for epoch in curve.epochs],
        "error, %": [100 * (1 - epoch.accuracy) for epoch in curve.epochs],
    }
    marks: list[Mark] = []
    for column, (title, values) in enumerate(figures.items(), 1):
        axes = drawn.add_subplot(1, 2, column)
        color = series_color(column - 1)
        axes.plot(numbers, values, color=color, linewidth=1.4)
        for number, value in zip(numbers[::step], values[::step], strict=True):
            axes.plot(
                [number], [value], color=color, marker="o", markersize=5, markeredgecolor=SURFACE,
                markeredgewidth=0.6, gid=mark_id(len(marks)),
            )  # fmt: skip
            unit = " %" if "%" in title else ""
            text = f"epoch {number}\n{title.partition(',')[0]} {plain_number(value)}{unit}"
            marks.append(Mark(text, {"epoch": str(number)}))
        axes.set_title(title, color=INK, pad=3)
        axes.set_ylim(0, min(100.0, max(values) * 1.08) if "%" in title else max(values) * 1.08)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(lambda value, position: f"{value:,.0f}")
        axes.yaxis.set_major_formatter(lambda value, position: plain_number(value))
        axes.set_xlabel("epoch")
    text = f"loss and error of {curve.checkpoint} over {len(numbers)} epochs"
    return to_svg(drawn, name, text, marks)
