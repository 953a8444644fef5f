"""The command ``lenet-edge inspect``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lenet_edge.cli._help import Command, Section, option
from lenet_edge.cli._options import json_option
from lenet_edge.cli._terminal import GATE_FAILED, output

if TYPE_CHECKING:
    from rich.text import Text

    from lenet_edge.flows.fit import Fits
    from lenet_edge.inspection import Layer, ModelGraph
    from lenet_edge.inspection.graph import GraphTensor
    from lenet_edge.report.terminal.table import TerminalTable

_MAX_PHRASES = 8  # the JSON has all


@click.command("inspect", cls=Command, section=Section.MEASURE, position=3)
@click.argument("model", type=click.Path(path_type=Path))
@option(
    "Microcontrollers",
    "boards",
    "--board",
    multiple=True,
    metavar="NAME",
    help="Say whether the C code of a .c or .tflite file fits on this board, such as pico or"
    " nano-33-ble. Repeatable. The exit status is 3 if it does not fit.",
)
@json_option
def command(model: Path, boards: tuple[str, ...], json_file: Path | None) -> None:
    """Show the layers of a model with their parameters and MACs.

    MODEL is a .keras, .h5, .tflite or .onnx file from this toolkit or from elsewhere, with any
    number of inputs and outputs, which follow the layers. MACs are the
    multiply-accumulate operations for one image; "?" if a layer's cannot be counted. Loops and
    branches are not counted. The graphs that they run follow in tables of their own, with the MACs
    of one run.

    \b
    Example: lenet-edge inspect exported/lenet_int8.tflite
    Example: lenet-edge inspect exported/lenet_native_int8.c --board pico
    """
    from rich.console import Group
    from rich.text import Text

    from lenet_edge.artifacts.parts import size_of
    from lenet_edge.inspection import inspect_graph

    graph = inspect_graph(model)
    size = size_of(model)
    kind = " of C source" if model.suffix.lower() == ".c" else ""
    title = f"{model.name}, {size:,} bytes{kind}"
    tables = [_table(title, graph.layers, graph)]
    for subgraph in graph.subgraphs:
        callers = ", ".join(subgraph.called_by) or "no operator runs it"
        tables.append(_table(f"\n{subgraph.name or 'graph'} ({callers})", subgraph.layers, graph))
    ends = [_ends(graph)] if graph.inputs is not None else []
    text = Text("\n".join(_summary(graph)))
    facts = _facts(model.name, size, graph)
    fits = None
    if boards:
        from lenet_edge.flows.fit import find_fits

        fits = find_fits(model, boards)
        facts["boards"] = [fit.to_json() for fit in fits.boards]
    output(Group(*tables, *ends, text, *_fit_lines(fits)), facts, json_file)
    if fits and not all(fit.fits for fit in fits.boards):
        raise SystemExit(GATE_FAILED)


def _fit_lines(fits: Fits | None) -> Iterator[Text]:
    """Yield the fit on each board, the notes on the boards, and the origin of the figures."""
    from rich.text import Text

    if fits is None:
        return
    yield Text("")
    for fit in fits.boards:
        sentence = f"{str(fit)[0].upper()}{str(fit)[1:]}."
        yield Text(sentence, style="green" if fit.fits else "red")
    for board in (fit.board for fit in fits.boards if fit.board.note):
        yield Text(f"{board.title}: {board.note}.", style="dim")
    yield Text(f"{fits.origin}. Library functions such as memcpy are not included.", style="dim")


def _facts(name: str, size_bytes: int, graph: ModelGraph) -> dict[str, Any]:
    dense = [layer for layer in graph.all_layers if layer.dense]
    return {
        "file": name,
        "size_bytes": size_bytes,
        "parameters": graph.parameters,
        "parameter_bytes": graph.parameter_bytes,
        "macs": graph.macs,
        "counted_macs": graph.counted_macs,
        "dense": _sums(dense),
        **graph.to_json(),
    }


def _sums(layers: Sequence[Layer]) -> dict[str, int | None]:
    from lenet_edge.inspection import total

    return {
        "parameters": total(layer.parameters for layer in layers),
        "macs": total(layer.macs for layer in layers),
    }


def _summary(graph: ModelGraph) -> Iterator[str]:
    """Yield the lines below the tables; the last one has the shares of the dense layers."""
    counts = ", ".join(f"{kind} {count:,}" for kind, count in _by_count(graph))
    yield f"Operators: {counts or 'none'}."
    for entry in graph.signatures:
        yield (
            f"Signature {entry.name}: {', '.join(entry.inputs) or 'no inputs'} to"
            f" {', '.join(entry.outputs) or 'no outputs'}."
        )
    for note in graph.notes:
        yield f"{note[0].upper()}{note[1:]}."
    if graph.parameter_bytes is not None:
        yield f"Weights and biases: {graph.parameter_bytes:,} bytes."
    if graph.not_counted:
        phrases = list(dict.fromkeys(graph.not_counted))
        hidden = len(phrases) - _MAX_PHRASES
        shown = [*phrases[:_MAX_PHRASES], *([f"{hidden:,} more"] if hidden > 0 else [])]
        yield f"Not counted: the MACs of {'; '.join(shown)}."
        yield f"MACs of all others: {graph.counted_macs:,}."
    dense = _sums([layer for layer in graph.all_layers if layer.dense])
    shares = [
        f"{_share(dense[key], whole)} % of {_count(whole)} {name}"
        for key, name, whole in (
            ("parameters", "parameters", graph.parameters), ("macs", "MACs", graph.macs),
        )
        if whole is not None
    ]  # fmt: skip
    if shares:
        yield f"Dense layers: {', '.join(shares)}."


def _by_count(graph: ModelGraph) -> list[tuple[str, int]]:
    return sorted(graph.operators.items(), key=lambda item: -item[1])


def _ends(graph: ModelGraph) -> TerminalTable:
    """Return the table of the inputs and outputs."""
    from lenet_edge.report.terminal.table import TerminalTable, figures, texts

    columns = [*texts("", "name", "type"), *figures("shape", "quantization")]
    table = TerminalTable(columns, "\ninputs and outputs")
    for side, tensors in (("input", graph.inputs or ()), ("output", graph.outputs or ())):
        for tensor in tensors:
            table.row(side, tensor.name, tensor.dtype, _shape(tensor), _quantization(tensor))
    return table


def _shape(tensor: GraphTensor) -> str:
    if tensor.shape is None:
        return "?"
    return "x".join("?" if size is None else str(size) for size in tensor.shape) or "scalar"


def _quantization(tensor: GraphTensor) -> str:
    if tensor.scale is None:
        return ""
    return f"{tensor.scale:.6g}, zero {tensor.zero_point}"


def _table(title: str, layers: Sequence[Layer], graph: ModelGraph) -> TerminalTable:
    """Return the table of a graph's layers."""
    from lenet_edge.report.terminal.table import TableColumn, TerminalTable, figures

    names = "output", "parameters", "%", "MACs", "%"
    table = TerminalTable(
        [TableColumn("layer", "path"), TableColumn("kind"), *figures(*names)], title
    )
    for layer in layers:
        shape = layer.output_shape
        table.row(
            layer.name,
            layer.kind,
            "?" if shape is None else "x".join("?" if s is None else str(s) for s in shape[1:]),
            _count(layer.parameters),
            _share(layer.parameters, graph.parameters),
            _count(layer.macs),
            _share(layer.macs, graph.macs),
        )
    return table


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _share(part: int | None, whole: int | None) -> str:
    return f"{100 * part / whole:.1f}" if whole and part is not None else "–"
