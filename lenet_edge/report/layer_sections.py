"""Layer times in the report: a chapter for each pair whose layers were timed."""

from __future__ import annotations

from lenet_edge.report.page_tables import PageSection, PageTable
from lenet_edge.results.formatting import MISSING, microseconds, target_and_threads, whole_number
from lenet_edge.results.result_file import BenchRun


def layer_sections(run: BenchRun) -> tuple[PageSection, ...]:
    """Return the layers of each pair whose layers were timed, in the order of execution."""
    sections = []
    for number, times in enumerate(run.layer_times, 1):
        rows = [
            (
                part.name,
                part.operator,
                microseconds(part.time_s),
                f"{times.share(part.time_s):.1%}",
                *map(whole_number, (part.macs, part.parameters, part.parameter_bytes)),
                MISSING if part.sqnr_db is None else f"{part.sqnr_db:.1f}",
                MISSING if part.lost_db is None else f"{part.lost_db:.1f}",
            )
            for part in times.parts
        ]
        styles = ["chosen" if layer is times.largest else "" for layer in times.layers]
        styles += ["" if times.agrees else "doubtful"] * len(times.rests)
        target = target_and_threads(times.target, times.num_threads)
        notes = (
            times.summary,
            f"Measured at batch {times.batch_size} by {times.method}, in turn with the whole call,"
            f" {times.rounds} times each. Lost dB: the signal-to-noise ratio that a layer loses to"
            " quantization.",
        )
        columns = ("layer", "operator", "µs", "share", "MACs", "parameters", "bytes", "SNR dB",
                   "lost dB")  # fmt: skip
        table = PageTable(columns, tuple(rows), 2, tuple(styles))
        title = f"Layers of {times.artifact} on {target}"
        sections.append(PageSection(f"layers{number}", title, notes, table))
    return tuple(sections)
