"""Terminal view of instruction counts. They have no rank: a count is no latency."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.console import RenderableType
from rich.text import Text

from lenet_edge.report.terminal.table import TableColumn, TerminalTable, figures
from lenet_edge.results.formatting import whole_number
from lenet_edge.results.instruction_count import InstructionCount
from lenet_edge.support.printable import make_printable


def count_views(counts: Iterable[InstructionCount]) -> list[RenderableType]:
    """Return the tables of each file: instructions and memory, then the layers."""
    views: list[RenderableType] = []
    in_order = sorted(counts, key=lambda count: count.artifact)
    for file, group in groupby(in_order, key=lambda count: count.artifact):
        of_file = list(group)
        title = f"\n{make_printable(file)}  instructions of an inference"
        views.append(Text(title, style="bold"))
        views.append(_table(of_file))
        views += [Text(line, style="dim") for line in _notes(of_file)]
    return views


def _table(counts: Sequence[InstructionCount]) -> RenderableType:
    columns = [TableColumn("", "path"), *figures(*(count.cpu for count in counts))]
    table = TerminalTable(columns, repeat=True)
    names = dict.fromkeys(name for count in counts for name in count.layers or {})
    for name in names:
        table.row(
            name,
            *(whole_number((count.layers or {}).get(name)) for count in counts),
        )
    table.row("total", *(whole_number(count.instructions) for count in counts), style="bold")
    memory = (
        ("flash, bytes", [count.flash_total_bytes for count in counts]),
        ("RAM, bytes", [count.ram_bytes for count in counts]),
        ("stack, bytes", [count.stack_bytes for count in counts]),
    )
    for name, sizes in memory:
        if any(size is not None for size in sizes):
            table.row(name, *map(whole_number, sizes), style="dim")
    return table


def _notes(counts: Sequence[InstructionCount]) -> list[str]:
    lines = ["Executed instructions, in an emulator: equal in every run. They are no latency."]
    for compiler in dict.fromkeys(count.compiler for count in counts if count.compiler):
        cpus = ", ".join(count.cpu for count in counts if count.compiler == compiler)
        lines.append(f"{cpus}: {make_printable(compiler)}")
    return lines
