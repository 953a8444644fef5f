"""Shared parts of the charts: the style of each target, labels of axes, texts of marks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lenet_edge.report.charts.svg import Mark, series_color
from lenet_edge.results.formatting import plain_number, target_and_threads
from lenet_edge.results.measurement import Measurement

_MARKS = "osD^vPX*"


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


def label_margin(labels: Sequence[str]) -> float:
    """Return the inches that labels need on the left of the axes."""
    return 0.15 + 0.068 * max(map(len, labels), default=1)


def label_microseconds(axis: Any, seconds: Sequence[float]) -> None:
    """Label a logarithmic axis in plain numbers, denser if the values span a small range."""
    from matplotlib.ticker import LogLocator

    wide_range = max(seconds) > 60 * min(seconds)
    axis.set_major_locator(LogLocator(subs=(1, 3) if wide_range else (1, 2, 5)))
    axis.set_major_formatter(lambda value, position: plain_number(value))
    axis.set_minor_formatter(lambda value, position: "")


def mark_of_cell(cell: Measurement, *figures: str) -> Mark:
    """Return the meaning of an element that shows a cell, with its figures."""
    row = {
        "file": cell.artifact,
        "runtime": cell.target,
        "threads": str(cell.num_threads),
        "batch": str(cell.batch_size),
    }
    name = f"{cell.artifact} on {target_and_threads(cell.target, cell.num_threads)}"
    return Mark("\n".join((name, f"batch {cell.batch_size:,}", *figures)), row)
