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
    multiply-accumulate operations for one image; "?" if a layer's cannot be counted.

    \b
    Example: lenet-edge inspect exported/lenet_int8.tflite
    """
    from dataclasses import asdict

    from rich.console import Group
    from rich.text import Text

    from lenet_edge.artifacts.embedded import size_of
    from lenet_edge.inspection import inspect

    layers = inspect(model)
    total, dense = _sums(layers), _sums([layer for layer in layers if layer.dense])
    facts = {
        "file": model.name,
        "size_bytes": size_of(model),
        **total,
        "dense": dense,
        "layers": [asdict(layer) for layer in layers],
    }
    summary = Text(_summary(layers, total, dense))
    title = f"{model.name}, {facts['size_bytes']:,} bytes"
    output(Group(_table(title, layers, total), summary), facts, json_file)


def _sums(layers: list[Layer]) -> dict[str, int | None]:
    from lenet_edge.inspection import total

    return {
        "parameters": total(layer.parameters for layer in layers),
        "macs": total(layer.macs for layer in layers),
    }


def _summary(
    layers: list[Layer], total: dict[str, int | None], dense: dict[str, int | None]
) -> str:
    """Return the shares of the dense layers, and the kinds of layers that cannot be counted."""
    names = {"parameters": "parameters", "macs": "MACs"}
    known = [name for name in names if total[name] is not None]
    unknown = [name for name in names if total[name] is None]
    sentences = []
    if known:
        shares = [
            f"{_share(dense[name], total[name])} % of {_count(total[name])} {names[name]}"
            for name in known
        ]
        sentences.append(f"Dense layers: {', '.join(shares)}.")
    if unknown:
        kinds = dict.fromkeys(
            layer.kind for layer in layers for name in unknown if getattr(layer, name) is None
        )
        counts = " and ".join(names[name] for name in unknown)
        sentences.append(f"Not known: the {counts} of {', '.join(kinds)}.")
    return " ".join(sentences)


def _table(title: str, layers: list[Layer], total: dict[str, int | None]) -> Any:
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
        shape = layer.output_shape
        table.add_row(
            layer.name,
            layer.kind,
            "?" if shape is None else "x".join(str(size or "?") for size in shape[1:]),
            _count(layer.parameters),
            _share(layer.parameters, total["parameters"]),
            _count(layer.macs),
            _share(layer.macs, total["macs"]),
        )
    return table


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _share(part: int | None, whole: int | None) -> str:
    return f"{100 * part / whole:.1f}" if whole and part is not None else "–"
