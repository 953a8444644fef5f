"""History in the report: a chapter with the figures of each cell over commits."""

from __future__ import annotations

from collections.abc import Sequence

from lenet_edge.report.history import EMULATED, Series, figure_text, is_worse, name_machine
from lenet_edge.report.page_tables import PageSection, PageTable
from lenet_edge.report.terminal.history import sparkline
from lenet_edge.results.formatting import MISSING, plural
from lenet_edge.results.result_file import BenchRun

_NOTE = (
    "Each row is one figure over the commits, on this machine; instructions are those of any"
    " machine. A change point of a latency is a step of the median by more than three times the"
    " noise; of any other figure, every change. + marks files that differed from the commit."
)


def history_section(series: Sequence[Series], run: BenchRun) -> PageSection | None:
    """Return the series of the machine of a run, those with change points first."""
    machines = (name_machine(run.environment), EMULATED)
    shown = sorted(
        (each for each in series if each.machine in machines), key=lambda each: not each.changes
    )
    if not shown:
        return None
    rows, styles = [], []
    for each in shown:
        changes = [each.describe_change(change) for change in each.changes]
        rows.append(
            (
                each.artifact,
                each.place or MISSING,
                each.metric,
                "; ".join(changes) or MISSING,
                sparkline([point.value for point in each.points]),
                figure_text(each.metric, each.points[0].value),
                figure_text(each.metric, each.points[-1].value),
                str(len(each.points)),
            )
        )
        last = each.changes[-1] if each.changes else None
        styles.append("" if last is None else "bad" if is_worse(each.metric, last) else "good")
    columns = ("file", "where", "figure", "change points", "course", "first", "newest", "commits")
    num_changes = sum(len(each.changes) for each in shown)
    notes = (f"{plural(num_changes, 'change point')} in {plural(len(shown), 'figure')}.", _NOTE)
    table = PageTable(columns, tuple(rows), 5, tuple(styles), prose=3)
    return PageSection("history", "History", notes, table)
