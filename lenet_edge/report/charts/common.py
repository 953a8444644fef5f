"""Shared parts of the charts: two sizes, the style of each target, labels of axes.

Each chart is drawn for a wide page and for a phone, so that its text is readable on both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lenet_edge.report.charts.svg import page_style, series_color, to_svg

_MARKS = "osD^vPX*"
_SIZES = (("wide", 8.4), ("narrow", 3.9))  # inches of 72 units


@dataclass(frozen=True)
class Chart:
    """Chart as two <svg> elements, for a wide and for a narrow page."""

    wide: str
    narrow: str


class TargetStyles:
    """Color and mark of each target, the same in all charts."""

    def __init__(self, targets: Sequence[str]) -> None:
        self.targets = tuple(sorted(set(targets)))

    def color(self, target: str) -> str:
        """Return the color of a target."""
        return series_color(self.targets.index(target))

    def mark(self, target: str) -> str:
        """Return the matplotlib marker of a target.

        After each round of colors the markers shift by one, so that no pair of them repeats.
        """
        number = self.targets.index(target)
        return _MARKS[(number + number // len(_MARKS)) % len(_MARKS)]


def short_names(files: Sequence[str]) -> dict[str, str]:
    """Return each file's name without a prefix that all share, such as "lenet_"."""
    prefix = files[0].partition("_")[0] + "_"
    shared = len(set(files)) > 1 and all(name.startswith(prefix) for name in files)
    return {name: name.removeprefix(prefix) if shared else name for name in files}


def label_microseconds(axis: Any, seconds: Sequence[float]) -> None:
    """Label a logarithmic axis in plain numbers, denser if the values span a small range."""
    from matplotlib.ticker import LogLocator

    wide_range = max(seconds) > 60 * min(seconds)
    axis.set_major_locator(LogLocator(subs=(1, 3) if wide_range else (1, 2, 5)))
    axis.set_major_formatter(lambda value, position: f"{value:,.4g}")
    axis.set_minor_formatter(lambda value, position: "")


def draw_both_sizes(draw: Callable[[str, float], Any], name: str, description: str) -> Chart:
    """Return a chart at both sizes.

    Args:
        draw: returns a figure, from the name of the size ("wide" or "narrow") and the width in
            inches.
        name: prefix of the element ids; unique on the page.
        description: content of the chart, for screen readers.
    """
    with page_style():
        return Chart(
            *(to_svg(draw(size, width), f"{name}-{size}", description) for size, width in _SIZES)
        )
