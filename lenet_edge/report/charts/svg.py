"""A matplotlib figure as SVG that takes its colours and its font from the page it stands in."""

from __future__ import annotations

import html
import io
import re
import warnings
from contextlib import AbstractContextManager
from typing import Any, cast

from lenet_edge.errors import MissingPackageError

# Colours that stand for the page's variables: drawn as they are, replaced in the text of the SVG.
INK, MUTED, GRID, SURFACE = "#010101", "#020202", "#030303", "#040404"
_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", SURFACE: "--surface"}
NUM_SERIES = 8
_SERIES = [f"#0500{number:02x}" for number in range(1, NUM_SERIES + 1)]
_VARIABLES |= {colour: f"--series-{number}" for number, colour in enumerate(_SERIES, 1)}

_STYLE = {
    "svg.fonttype": "none",  # text stays text: it can be selected, copied and searched
    "svg.hashsalt": "lenet-edge",  # the same results make the same page
    "text.parse_math": False,  # a file may be named $x$
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


def series(number: int) -> str:
    """Return the colour of a series; after eight they come again, so that marks differ too."""
    return _SERIES[number % NUM_SERIES]


def style() -> AbstractContextManager[None]:
    """Return the context in which figures of the page's style are drawn and written.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
    except ImportError:
        raise MissingPackageError("matplotlib", "report") from None
    return cast("AbstractContextManager[None]", rc_context(_STYLE))


def figure(width: float, height: float) -> Any:
    """Return an empty figure, `width` × `height` inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def to_svg(drawn: Any, name: str, description: str) -> str:
    """Return a figure as an <svg> element for the middle of a page.

    Args:
        drawn: what `figure` gave.
        name: one that no other figure of the page has.
        description: what it shows, for those who do not see it.
    """
    text = io.StringIO()
    with warnings.catch_warnings():
        # The page's font draws the text, and has characters that matplotlib's lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        drawn.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style).*?</\1>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)", svg))  # most names of parts are not
    svg = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--font)", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r"\s*\n\s*", " ", svg)
    viewbox = re.search(r'viewBox="[^"]+"', svg)
    assert viewbox
    opening = f'<svg {viewbox[0]} role="img" aria-label="{html.escape(description)}">'
    return opening + svg[svg.index(">") + 1 :].strip()
