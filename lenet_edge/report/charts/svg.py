"""Matplotlib figures as SVG with the colors and the font of the surrounding page."""

from __future__ import annotations

import contextlib
import html
import io
import json
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_edge.errors import MissingPackageError
from lenet_edge.support.safe_import import outside_of_the_current_folder

# Placeholder colors. In the finished SVG, CSS variables of the page replace them.
INK, MUTED, GRID, SURFACE = "#010101", "#020202", "#030303", "#040404"
_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", SURFACE: "--surface"}
NUM_SERIES = 8
WIDTH = 5.4  # inches of 72 units; on a phone a unit is 0.92 CSS pixels
_RIGHT = 0.1
_MARK = "mark-"
_SERIES = [f"#0500{number:02x}" for number in range(1, NUM_SERIES + 1)]
_VARIABLES |= {color: f"--series-{number}" for number, color in enumerate(_SERIES, 1)}

_STYLE = {
    "svg.fonttype": "none",  # text stays text, so it can be selected, copied and searched
    "svg.hashsalt": "lenet-edge",  # equal results give equal pages
    "text.parse_math": False,  # file names may contain $
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
}


def series_color(number: int) -> str:
    """Return the color of a series; the colors repeat after eight series."""
    return _SERIES[number % NUM_SERIES]


@contextlib.contextmanager
def default_style(changes: dict[str, Any] | None = None) -> Iterator[None]:
    """Draw and write figures with the defaults of matplotlib, and with some changes.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    try:
        if "matplotlib" not in sys.modules:
            with outside_of_the_current_folder():
                import matplotlib  # noqa: F401
        from matplotlib import get_data_path, rc_context
    except ImportError:
        raise MissingPackageError("matplotlib", "report") from None
    with rc_context(changes, fname=Path(get_data_path(), "matplotlibrc")):
        yield


@contextlib.contextmanager
def page_style() -> Iterator[None]:
    """Draw and write figures in the style of the page.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    with default_style(_STYLE):
        yield


def figure(width: float, height: float) -> Any:
    """Return an empty figure of `width` × `height` inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def page_figure(height: float, left: float, bottom: float = 0.42, top: float = 0.08) -> Any:
    """Return an empty figure for the page; the margins around its axes are in inches.

    Fixed margins: matplotlib's layouts draw everything twice more to find them.
    """
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(WIDTH, height))
    drawn.subplots_adjust(
        left / WIDTH, bottom / height, 1 - _RIGHT / WIDTH, 1 - top / height, hspace=0
    )
    return drawn


@dataclass(frozen=True)
class Mark:
    """Meaning of an element of a chart.

    Attributes:
        text: what the page shows while the pointer is on the element.
        row: cells of the table rows that describe the same thing, by the name of the column.
    """

    text: str
    row: dict[str, str]


def to_svg(drawn: Any, name: str, description: str, marks: Sequence[Mark] = ()) -> str:
    """Return a matplotlib figure as an <svg> element for a page.

    Args:
        drawn: the figure.
        name: prefix of the element ids; unique on the page.
        description: content of the figure, for screen readers.
        marks: meanings of the artists whose gid is `mark_id` of the index.
    """
    text = io.StringIO()
    with warnings.catch_warnings():
        # The browser draws the text with the page's font, so missing glyphs do not matter.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        drawn.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style).*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(rf'<g id="{_MARK}(\d+)">', lambda match: _mark_element(marks[int(match[1])]), svg)
    used = set(re.findall(r"#([\w-]+)", svg))  # most ids are unused
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    # The page makes texts smaller where it is wider than the chart.
    svg = re.sub(r"(font(?:-size)?: [^;\"]*?)([\d.]+)px", r"\1calc(\2px * var(--text))", svg)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--font)", svg)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    svg = re.sub(r"\s*\n\s*", " ", svg)
    viewbox = re.search(r'viewBox="[^"]+"', svg)
    assert viewbox
    opening = f'<svg {viewbox[0]} role="img" aria-label="{html.escape(description)}">'
    return opening + svg[svg.index(">") + 1 :].strip()


def mark_id(index: int) -> str:
    """Return the gid of an artist that is a mark."""
    return f"{_MARK}{index}"


def _mark_element(mark: Mark) -> str:
    """Return the start of the group of a mark, with a <title> for pages without scripts."""
    row = html.escape(json.dumps(mark.row, ensure_ascii=False))
    text = html.escape(mark.text).replace("\n", "&#10;")
    return f'<g class="mark" data-row="{row}"><title>{text}</title>'
