"""Instruction counts in the report: a chapter of their own, because they are no latencies."""

from __future__ import annotations

from lenet_edge.report.page_tables import PageSection, PageTable
from lenet_edge.results.formatting import MISSING
from lenet_edge.results.result_file import BenchRun, InstructionCount

_NOTE = (
    "Executed instructions of one inference in an emulator, the mean of several. They are equal in"
    " every run, and they have no rank: no number of instructions is a latency."
)


def counts_section(run: BenchRun) -> PageSection | None:
    """Return the instructions of each file on each processor, with its layers; None without any."""
    if not run.instruction_counts:
        return None
    rows, styles = [], []
    compilers: dict[str, list[str]] = {}
    for count in sorted(run.instruction_counts, key=lambda count: count.key):
        rows.append(_row(count, "total", count.instructions))
        styles.append("chosen")
        for name, instructions in (count.layers or {}).items():
            rows.append(_row(count, name, instructions))
            styles.append("")
        if count.compiler:
            compilers.setdefault(count.compiler, []).append(count.cpu)
    notes = [f"{', '.join(dict.fromkeys(cpus))}: {name}." for name, cpus in compilers.items()]
    table = PageTable(
        ("file", "processor", "layer", "instructions", "share"), tuple(rows), 3, tuple(styles)
    )
    return PageSection("counts", "Instructions", (_NOTE, *notes), table)


def _row(count: InstructionCount, layer: str, instructions: float) -> tuple[str, ...]:
    share = f"{instructions / count.instructions:.0%}" if count.instructions else MISSING
    return count.artifact, count.cpu, layer, f"{instructions:,.0f}", share
