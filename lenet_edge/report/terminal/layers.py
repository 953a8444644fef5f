"""Terminal view of the times of layers: a bar for each layer."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import RenderableType
from rich.text import Text

from lenet_edge.report.terminal.table import TableColumn, TerminalTable, figures, texts
from lenet_edge.results.formatting import (
    MISSING,
    microseconds,
    short_number,
    target_and_threads,
)
from lenet_edge.results.layer_times import LayerTime, LayerTimes
from lenet_edge.support.printable import make_printable

_BAR = 6  # characters


def layer_views(all_times: Iterable[LayerTimes]) -> list[RenderableType]:
    """Return a table and a sentence for each pair."""
    views: list[RenderableType] = []
    for times in all_times:
        target = target_and_threads(times.target, times.num_threads)
        has_errors = any(layer.lost_db is not None for layer in times.layers)
        columns = [
            TableColumn("", "path"),
            *texts(""),
            *figures("µs", "%"),
            TableColumn("", "picture"),
            *figures("MACs", "param", "bytes", *(["-dB"] if has_errors else [])),
        ]
        title = f"\n{times.artifact}  layers on {target}, batch {times.batch_size}"
        table = TerminalTable(columns, title)
        for layer in times.layers:
            row = _row(times, layer)
            table.row(*row[: len(columns)], style="bold" if layer is times.largest else None)
        for name, seconds in times.rests:
            table.row(
                name, "", microseconds(seconds), f"{100 * times.share(seconds):.0f}", style="dim"
            )
        doubt = "" if times.agrees else "yellow"
        views += [table, Text(make_printable(times.summary), style=doubt),
                  Text(_legend(times, has_errors), style="dim")]  # fmt: skip
    return views


def _legend(times: LayerTimes, has_errors: bool) -> str:
    lost = " -dB: signal-to-noise ratio that the layer loses to quantization." if has_errors else ""
    return f"Measured by: {times.method}.{lost}"


def _row(times: LayerTimes, layer: LayerTime) -> list[str]:
    share = times.share(layer.time_s)
    return [
        layer.name,
        layer.operator,
        microseconds(layer.time_s),
        f"{100 * share:.0f}",
        "█" * min(_BAR, round(_BAR * share)),
        short_number(layer.macs),
        short_number(layer.parameters),
        short_number(layer.parameter_bytes),
        MISSING if layer.lost_db is None else f"{layer.lost_db:.1f}",
    ]
