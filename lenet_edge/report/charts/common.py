"""What all pictures share: their two sizes, a colour and a mark for each target, plain axes.

Each is drawn twice, for a wide page and for a phone, so that its text is readable on both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lenet_edge.report.charts.svg import series, style, to_svg

_MARKS = "osD^vPX*"
_SIZES = (("wide", 8.4), ("narrow", 3.9))  # inches of 72 units


@dataclass(frozen=True)
class Chart:
    """One picture for a wide and for a narrow page, as <svg> elements."""

    wide: str
    narrow: str


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


def microseconds(axis: Any, seconds: Sequence[float]) -> None:
    """Label a logarithmic axis with plain numbers, and enough of them."""
    from matplotlib.ticker import LogLocator

    few = max(seconds) > 60 * min(seconds)
    axis.set_major_locator(LogLocator(subs=(1, 3) if few else (1, 2, 5)))
    axis.set_major_formatter(lambda value, place: f"{value:,.4g}")
    axis.set_minor_formatter(lambda value, place: "")


def both(draw: Callable[[str, float], Any], name: str, description: str) -> Chart:
    """Return what `draw`, given a size's name and its width in inches, draws at both sizes."""
    with style():
        return Chart(
            *(to_svg(draw(size, width), f"{name}-{size}", description) for size, width in _SIZES)
        )
