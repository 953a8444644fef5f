"""Small HTML tables of results, for notebooks."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar


class HasRow(Protocol):
    """A result that is a row of a table."""

    def html_row(self) -> Mapping[str, str]:
        """Return the cells as text, by the title of their column."""


Row = TypeVar("Row", bound=HasRow)


class ResultList(list[Row]):
    """A list of results that a notebook shows as a table."""

    def _repr_html_(self) -> str:
        return html_table([result.html_row() for result in self])


def html_table(rows: Sequence[Mapping[str, str]], caption: str = "") -> str:
    """Return rows as a <table>; a column of numbers is aligned to the right.

    Args:
        rows: the cells of each row by column; columns stand in the order of the first row.
        caption: a line above the table.
    """
    columns = list(rows[0]) if rows else []
    right = {name for name in columns if any(row[name][:1].isdigit() for row in rows)}
    head = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    titles = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td style="text-align: {"right" if name in right else "left"}">'
            f"{html.escape(row[name])}</td>"
            for name in columns
        )
        + "</tr>"
        for row in rows
    )
    return f"<table>{head}<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def html_lines(lines: Iterable[str]) -> str:
    """Return lines of text as paragraphs."""
    return "".join(f"<p>{html.escape(line)}</p>" for line in lines)
