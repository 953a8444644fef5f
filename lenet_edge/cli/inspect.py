"""The command ``lenet-edge inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lenet_edge.cli._help import Command, Section
from lenet_edge.cli._options import json_option
from lenet_edge.cli._terminal import output

if TYPE_CHECKING:
    from lenet_edge.inspection import Layer


@click.command("inspect", cls=Command, section=Section.MEASURE, position=3)
@click.argument("model", type=click.Path(path_type=Path))
@json_option
def command(model: Path, json_file: Path | None) -> None:
    """Show the layers of a model with their parameters and MACs.

    MODEL is a .keras, .h5, .tflite or .onnx file from this toolkit or from elsewhere. MACs are the
    multiply-accumulate operations for one image.

    \b
    Example: lenet-edge inspect exported/lenet_int8.tflite
    """
    from dataclasses import asdict

    from rich.console import Group
    from rich.text import Text

    from lenet_edge.inspection import inspect

    layers = inspect(model)
    total, dense = _sums(layers), _sums([layer for layer in layers if layer.dense])
    facts = {
        "file": model.name,
        **total,
        "dense": dense,
        "layers": [asdict(layer) for layer in layers],
    }
    summary = Text(
        f"Dense layers: {_share(dense['parameters'], total['parameters'])} % of"
        f" {total['parameters']:,} parameters, {_share(dense['macs'], total['macs'])} % of"
        f" {total['macs']:,} MACs."
    )
    output(Group(_table(model.name, layers, total), summary), facts, json_file)


def _sums(layers: list[Layer]) -> dict[str, int]:
    return {
        "parameters": sum(layer.parameters for layer in layers),
        "macs": sum(layer.macs for layer in layers),
    }


def _table(title: str, layers: list[Layer], total: dict[str, int]) -> Any:
    from rich.table import Table

    table = Table(
        title=title, title_style="bold", title_justify="left", box=None, padding=(0, 1, 0, 0),
        header_style="dim",
    )  # fmt: skip
    table.add_column("layer", max_width=22, no_wrap=True)
    table.add_column("kind", max_width=17, no_wrap=True)
    for name in ("output", "parameters", "%", "MACs", "%"):
        table.add_column(name, justify="right", no_wrap=True)
    for layer in layers:
        table.add_row(
            layer.name,
            layer.kind,
            "x".join(str(size or "?") for size in layer.output_shape[1:]),
            f"{layer.parameters:,}",
            _share(layer.parameters, total["parameters"]),
            f"{layer.macs:,}",
            _share(layer.macs, total["macs"]),
        )
    return table


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else "–"
