"""A table that fits the width of any terminal and never cuts a figure.

With too little room, columns of pictures are left out first. Then the figures of a row take several
lines, or the table is repeated with the next figures. Names and sentences are folded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Literal

from rich.cells import cell_len, chop_cells
from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lenet_edge.results.formatting import end_of_name
from lenet_edge.support.printable import make_printable

# Widths to which the first column and other texts are folded before figures take several lines.
_FIRST_WIDTH, _TEXT_WIDTH = 20, 12
_PROSE_WIDTH = 40  # of a column beside others
_HEADING_WIDTH = 16  # of a figure
_LEAST_WIDTH = 4  # of a text on a terminal that has too little room for anything


@dataclass(frozen=True)
class TableColumn:
    """A column of a `TerminalTable`.

    Attributes:
        heading: its heading.
        kind: "text" is folded; of a "path", the start may be left out; "prose", in the last column,
            goes below its row if it has little room; a "figure" is never cut; a "picture" is left
            out first.
    """

    heading: str = ""
    kind: Literal["text", "path", "prose", "figure", "picture"] = "text"


@dataclass
class TableBlock:
    """A title, and rows: the cells, the styles of the first cells, and the style of the row."""

    title: str | None
    rows: list[tuple[list[str], Sequence[str | None], str]] = field(default_factory=list)


class TerminalTable:
    """Blocks of rows with aligned columns; only the first block has the headings."""

    def __init__(
        self, columns: Sequence[TableColumn], title: str | None = None, repeat: bool = False
    ) -> None:
        """Create a table without rows.

        Args:
            columns: the columns; see `texts` and `figures`.
            title: the title of the first block.
            repeat: repeat the table for the figures that have no room, instead of rows of several
                lines. This suits figures of one kind, such as those of many processors.
        """
        self.columns = columns
        self._repeat = repeat
        self.blocks: list[TableBlock] = []
        if title is not None:
            self.start(title)

    def start(self, *title: str) -> None:
        """Begin a block with a title of several parts."""
        self.blocks.append(TableBlock(make_printable("  ".join(title))))

    def row(self, *cells: str, style: str | None = None, styles: Sequence[str | None] = ()) -> None:
        """Add a row to the last block.

        Args:
            cells: the text of each cell; those missing at the end are empty.
            style: the style of the row.
            styles: the styles of the first cells, over that of the row.
        """
        if not self.blocks:
            self.blocks.append(TableBlock(None))
        missing = [""] * (len(self.columns) - len(cells))
        row = [*map(make_printable, cells), *missing], styles, style or ""
        self.blocks[-1].rows.append(row)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table for the width of the terminal."""
        natural = [self._natural_width(number) for number in range(len(self.columns))]
        room = options.max_width - sum(natural[:-1]) - 2 * (len(natural) - 1)
        if self.columns[-1].kind == "prose" and room < min(natural[-1], _PROSE_WIDTH):
            yield from self._with_prose_below(options.max_width)
            return
        for layout in self._layouts(options.max_width):
            for number, block in enumerate(self.blocks):
                if block.title is not None:
                    yield Text(_fold(block.title, options.max_width), style="bold")
                yield self._draw(block, layout, has_headings=not number)

    def _with_prose_below(self, width: int) -> Iterator[Table | Padding]:
        """Yield each row without its last cell, and that cell below it."""
        columns = [[number] for number in range(len(self.columns) - 1)]
        layout = self._widen(self._layout(columns, 2, True), width)
        rows = [row for block in self.blocks for row in block.rows]
        for number, row in enumerate(rows):
            yield self._draw(TableBlock(None, [row]), layout, has_headings=not number)
            yield Padding(Text(row[0][-1], style=row[2]), (0, 0, 0, 2))

    def _layouts(self, width: int) -> Iterator[_Layout]:
        """Yield the layout of the table, or those of its repetitions."""
        every = [[number] for number in range(len(self.columns))]
        plain = [[n] for (n,) in every if self.columns[n].kind != "picture"]
        for columns, gap, folded in (
            (every, 2, False), (every, 1, False), (every, 2, True), (every, 1, True),
            (plain, 1, True),
        ):  # fmt: skip
            layout = self._layout(columns, gap, folded)
            if layout.width <= width:
                yield self._widen(layout, width)
                return
        numbers = [n for (n,) in plain if self.columns[n].kind == "figure"]
        while self._repeat and numbers:
            counts = range(len(numbers), 0, -1)
            layouts = ((n, self._stack(numbers[:n], 1, 1)) for n in counts)
            count, layout = next((n, each) for n, each in layouts if each.width <= width or n == 1)
            yield self._widen(layout, width)
            numbers = numbers[count:]
        if self._repeat:
            return
        for lines, gap in product(range(2, len(numbers) + 1), (2, 1)):
            layout = self._stack(numbers, lines, gap)
            if layout.width <= width:
                break
        yield self._widen(layout, width)

    def _stack(self, numbers: Sequence[int], lines: int, gap: int) -> _Layout:
        """Return the layout with the texts and some figures, which take several lines in a row."""
        per_line = -(-len(numbers) // lines)
        stacks = {numbers[n]: list(numbers[n::per_line]) for n in range(per_line)}
        columns = [
            stacks.get(number, [number])
            for number, column in enumerate(self.columns)
            if number in stacks or self._is_text([number])
        ]
        return self._layout(columns, gap, True)

    def _layout(self, columns: list[list[int]], gap: int, folded: bool) -> _Layout:
        widths = []
        for stack in columns:
            width = max(map(self._natural_width, stack))
            if self.columns[stack[0]].kind == "path" or (folded and self._is_text(stack)):
                width = min(width, _TEXT_WIDTH if stack[0] else _FIRST_WIDTH)
            widths.append(width)
        return _Layout(columns, widths, gap)

    def _widen(self, layout: _Layout, width: int) -> _Layout:
        """Give the room that is left to the texts with most lines; narrow them if needed."""
        widths = layout.widths
        foldable = [n for n, stack in enumerate(layout.columns) if self._is_text(stack)]

        def num_folds(n: int) -> int:
            cells = (row[0][layout.columns[n][0]] for block in self.blocks for row in block.rows)
            lines = (line for cell in cells for line in cell.split("\n"))
            return sum(cell_len(line) // (widths[n] + 1) for line in lines)

        while layout.width < width and any(map(num_folds, foldable)):
            widths[max(foldable, key=num_folds)] += 1
        while layout.width > width and any(widths[n] > _LEAST_WIDTH for n in foldable):
            widths[max(foldable, key=lambda n: widths[n])] -= 1
        return layout

    def _is_text(self, stack: Sequence[int]) -> bool:
        return self.columns[stack[0]].kind in ("text", "path", "prose")

    def _natural_width(self, number: int) -> int:
        column = self.columns[number]
        heading = column.heading
        if column.kind == "figure":
            heading = _fold(heading, _HEADING_WIDTH)
        cells = [heading, *(row[0][number] for block in self.blocks for row in block.rows)]
        return max(cell_len(line) for cell in cells for line in cell.split("\n"))

    def _draw(self, block: TableBlock, layout: _Layout, has_headings: bool) -> Table:
        table = Table(
            box=None, padding=(0, layout.gap, 0, 0), pad_edge=False, header_style="dim",
            show_header=has_headings and any(column.heading for column in self.columns),
        )  # fmt: skip
        headings = self._fit([column.heading for column in self.columns], layout)
        for stack, width, heading in zip(layout.columns, layout.widths, headings, strict=True):
            justify: Literal["left", "right"] = (
                "right" if self.columns[stack[0]].kind == "figure" else "left"
            )
            table.add_column(Text(heading), width=width, justify=justify, overflow="fold")
        for row, styles, style in block.rows:
            cells = []
            for stack, text in zip(layout.columns, self._fit(row, layout), strict=True):
                own = styles[stack[0]] if stack[0] < len(styles) else None
                cells.append(Text(text, style=own or ""))
            table.add_row(*cells, style=style)
        return table

    def _fit(self, cells: Sequence[str], layout: _Layout) -> Iterator[str]:
        """Yield the text of each column of a layout, from the cells or headings of a row."""
        most = max(map(len, layout.columns))
        for stack, width in zip(layout.columns, layout.widths, strict=True):
            kind = self.columns[stack[0]].kind
            shorten = end_of_name if kind == "path" else _fold
            lines = [shorten(cells[number], width) for number in stack]
            if kind == "figure":  # the lines of all stacks are at the same height
                lines += [""] * (most - len(stack))
            yield "\n".join(lines)


@dataclass
class _Layout:
    """Columns beside each other, each with the columns of the table that it has in its lines."""

    columns: list[list[int]]
    widths: list[int]
    gap: int

    @property
    def width(self) -> int:
        return sum(self.widths) + self.gap * (len(self.widths) - 1)


def _fold(text: str, width: int) -> str:
    """Break lines between words, and those words that are too long after their punctuation."""
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for piece in _pieces(paragraph, width):
            if line and cell_len((line + piece).rstrip()) > width:
                lines.append(line.rstrip())
                line = ""
            line += piece
        lines.append(line.rstrip())
    return "\n".join(lines)


def _pieces(paragraph: str, width: int) -> Iterator[str]:
    for word in re.findall(r"\S+\s*|\s+", paragraph):
        if cell_len(word.rstrip()) <= width:
            yield word
            continue
        for part in re.split(r"(?<=[-_./:,;=])", word):
            yield from [part] if cell_len(part.rstrip()) <= width else chop_cells(part, width)


def texts(*headings: str) -> list[TableColumn]:
    """Return columns of text."""
    return [TableColumn(heading) for heading in headings]


def figures(*headings: str) -> list[TableColumn]:
    """Return columns of figures."""
    return [TableColumn(heading, "figure") for heading in headings]
