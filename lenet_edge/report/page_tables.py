"""Tables and notes of the report page, as plain text; templates lay them out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lenet_edge.report.comparison import Comparison, count_verdicts
from lenet_edge.report.doubts import doubt_details, invalid_lines
from lenet_edge.report.eligibility import JudgedCell
from lenet_edge.report.equal_boards import board_matrix, find_outliers, relative_latencies
from lenet_edge.report.rank import ranking_latency_s, ranking_quantile, ranks, tie_lines
from lenet_edge.report.recommend import NothingFits, Recommendation
from lenet_edge.results.enough_images import other_reasons
from lenet_edge.results.formatting import (
    MISSING,
    error,
    latency,
    microseconds,
    percent,
    plural,
    points,
    with_prefix,
)
from lenet_edge.results.process_samples import (
    MIN_SAMPLES_P90,
    MIN_SAMPLES_P99,
    MIN_SAMPLES_P999,
)
from lenet_edge.results.result_file import BenchRun, Measurement, ParityReport, Skipped

_MAX_OTHERS = 6
_MAX_BOARDS = 24  # above this number, the slowest boards come first


@dataclass(frozen=True)
class PageTable:
    """Rows of text.

    Attributes:
        columns: headings.
        rows: cells.
        text_columns: number of leading columns with words; the others hold numbers.
        styles: "", "good", "bad", "doubtful" or "chosen" for each row.
        prose: index of the column that holds sentences, if there is one.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 2
    styles: tuple[str, ...] = ()
    prose: int | None = None

    def style(self, row: int) -> str:
        """Return the style of a row."""
        return self.styles[row] if self.styles else ""


@dataclass(frozen=True)
class FoldedLines:
    """Sentences without full stops that the page folds under a title."""

    title: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class PageSection:
    """Heading, sentences, a table and details that are folded at first.

    Attributes:
        anchor: start of the element's id.
        title: heading.
        notes: sentences above the table.
        table: the table, if there is one.
        table_title: title under which the page folds the table; "" shows the table.
        details: further sentences.
    """

    anchor: str
    title: str
    notes: tuple[str, ...] = ()
    table: PageTable | None = None
    table_title: str = ""
    details: tuple[FoldedLines, ...] = ()


def others_section(run: BenchRun, advice: Recommendation | NothingFits) -> PageSection:
    """Return the cells that were not chosen, with the reasons."""
    quantile = ranking_quantile(run)
    if isinstance(advice, NothingFits):
        cells: Sequence[JudgedCell] = advice.nearest
        title = "Why nothing fits"
    else:
        cells = (*advice.ties, *advice.others)
        title = "Why not another file"
    rows = [
        (
            cell.measurement.artifact,
            cell.measurement.target,
            cell.why_not,
            latency(ranking_latency_s(cell.measurement, quantile)),
            cell.measurement.size.replace(" bytes as built for", " on").replace(" bytes", ""),
            percent(None if cell.parity is None else cell.parity.candidate_accuracy),
            str(cell.measurement.num_threads),
        )
        for cell in cells[:_MAX_OTHERS]
    ]
    more = len(cells) - len(rows)
    notes = [f"The tables below list {more} more."] if more > 0 else []
    columns = ("file", "runtime", "why not", "latency", "bytes", "accuracy %", "threads")
    table = PageTable(columns, tuple(rows), 3, prose=2) if rows else None
    return PageSection("others", title, tuple(notes), table)


def latencies_section(run: BenchRun, advice: Recommendation | NothingFits) -> PageSection:
    """Return all measured latencies."""
    if not run.measurements:
        note = "There are no latencies; add the results of: lenet-edge bench --json FILE"
        return PageSection("latencies", "All latencies", (note,))
    rank_by_key = ranks(run)
    chosen = advice.measurement if isinstance(advice, Recommendation) else None
    rows, styles = [], []
    for cell in sorted(run.measurements, key=lambda cell: cell.key):
        rows.append(
            (
                cell.artifact,
                cell.target,
                str(cell.num_threads),
                str(cell.batch_size),
                microseconds(cell.p50_s),
                f"{cell.half_width:.1%}",
                microseconds(cell.p90_s),
                microseconds(cell.p99_s),
                microseconds(cell.p999_s),
                microseconds(cell.jitter_s),
                f"{cell.images_per_s:,.0f}",
                _images_per_s_range(cell),
                f"{cell.load_time_s * 1e3:.0f}",
                rank_by_key.get(cell.key, MISSING),
            )
        )
        styles.append("chosen" if cell is chosen else "bad" if cell.invalid else "")
    notes = [
        "±: half-width of the 95 % interval of the median, over calls and processes. Jitter: p99"
        " minus p50. Rank: among the cells with that batch size and thread count; = marks ties"
        " within 10 %, ? marks cells that may differ by more.",
        f"p90 needs {MIN_SAMPLES_P90} samples, p99 {MIN_SAMPLES_P99} and p99.9"
        f" {MIN_SAMPLES_P999:,}, each the time of one call. A longer --min-time takes more.",
    ]
    notes += [f"Invalid: {line}." for line in invalid_lines(run)]
    columns = ("file", "runtime", "threads", "batch", "p50 µs", "±", "p90 µs", "p99 µs",
               "p99.9 µs", "jitter µs", "images/s", "95 % interval", "load ms", "rank")  # fmt: skip
    table = PageTable(columns, tuple(rows), 2, tuple(styles))
    ties, doubts = tuple(tie_lines(run)), doubt_details(run)
    details = (
        FoldedLines(plural(len(ties), "shared rank"), ties),
        FoldedLines(f"Doubts about {plural(len(doubts), 'cell')}", doubts),
    )
    title = f"Latencies of {plural(len(rows), 'cell')}"
    return PageSection(
        "latencies", "All latencies", tuple(notes), table, title,
        tuple(folded for folded in details if folded.lines),
    )  # fmt: skip


def energy_section(run: BenchRun) -> PageSection | None:
    """Return the energy of each cell that was measured with a meter; None without any."""
    metered = [(cell, cell.energy_j) for cell in run.measurements if not cell.invalid]
    known = [(cell, joules) for cell, joules in metered if joules is not None]
    if not known:
        return None
    rows = [
        (
            cell.artifact,
            cell.target,
            str(cell.num_threads),
            str(cell.batch_size),
            with_prefix(joules, "J"),
            with_prefix(joules * cell.images_per_s, "W"),
            f"{1 / joules:,.0f}" if joules > 0 else MISSING,
        )
        for cell, joules in sorted(known, key=lambda each: each[1])
    ]
    covers = sorted({cell.energy_covers for cell, _ in known if cell.energy_covers})
    note = f"The meter includes {' and '.join(covers) or 'unknown parts of the machine'}."
    columns = ("file", "runtime", "threads", "batch", "energy per image", "power", "images per J")
    return PageSection("energy", "Energy", (note,), PageTable(columns, tuple(rows), 2))


def _images_per_s_range(cell: Measurement) -> str:
    low, high = cell.images_per_s_interval
    return f"{low:,.0f}–{high:,.0f}"


def parity_section(reports: Sequence[ParityReport]) -> PageSection:
    """Return the verdict and the figures of each parity report."""
    title = "Parity with the reference"
    if not reports:
        note = "There are no parity reports; add the results of: lenet-edge verify --json FILE"
        return PageSection("parity", title, (note,))
    references = ", ".join(sorted({report.reference for report in reports}))
    by_size = sorted(reports, key=lambda report: report.num_samples)
    samples = ", ".join(dict.fromkeys(report.samples for report in by_size))
    notes = [
        f"Each file is compared with {references} on {samples}. Drop: percentage points of"
        " accuracy lost. p: p-value of McNemar's test, small if the difference is not due to"
        " chance. Agree: images with the same predicted class."
    ]
    rows, styles = [], []
    for report in reports:
        low, high = report.accuracy_interval or (None, None)
        rows.append(
            (
                report.candidate,
                report.target,
                report.verdict,
                percent(report.candidate_accuracy),
                MISSING if low is None else f"{percent(low)}–{percent(high)}",
                points(report.accuracy_drop),
                MISSING if report.mcnemar_p is None else f"{report.mcnemar_p:.3f}",
                percent(report.top1_agreement),
                f"{len(report.flips):,}",
                error(report.max_abs_error),
            )
        )
        styles.append({"pass": "", "fail": "bad"}.get(report.verdict, "doubtful"))
        # The doubts at the top of the page have one sentence on too few images.
        left = other_reasons(report)
        if report.verdict != "pass" and (left or not report.reasons):
            reasons = "; ".join(left) or "it exceeds its bounds"
            notes.append(f"{report.candidate} on {report.target}, {report.verdict}: {reasons}.")
        if report.diagnosis:
            notes.append(report.diagnosis)
    columns = ("file", "runtime", "verdict", "accuracy %", "95 % interval", "drop", "p", "agree %",
               "flips", "max error")  # fmt: skip
    table = PageTable(columns, tuple(rows), 3, tuple(styles))
    return PageSection("parity", title, tuple(notes), table)


def skipped_section(skipped: Sequence[Skipped]) -> PageSection:
    """Return the pairs that did not run, one row for each target and reason."""
    files: dict[tuple[str, str], list[str]] = {}
    for skip in skipped:
        files.setdefault((skip.target, skip.reason), []).append(skip.artifact or MISSING)
    rows = [
        (target, ", ".join(dict.fromkeys(names)), reason)
        for (target, reason), names in files.items()
    ]
    notes = () if rows else ("Nothing was skipped.",)
    table = PageTable(("runtime", "files", "reason"), tuple(rows), 3, prose=2) if rows else None
    title = plural(len(rows), "reason")
    return PageSection("skipped", "Skipped", notes, table, title)


def facts_section(run: BenchRun) -> PageSection:
    """Return the facts of the machine, the software and the plan."""
    machine = run.environment
    memory = None if machine.memory_bytes is None else f"{machine.memory_bytes / 2**30:.1f} GiB"
    peaks = ", ".join(
        f"{peak / 1e9:.1f} billion per second on {plural(num_threads, 'thread')}"
        for num_threads, peak in sorted(run.peak_macs_per_s.items())
    )
    facts = {
        "machine": machine.machine,
        "CPU": machine.cpu,
        "cores": f"{machine.cores} ({machine.architecture})",
        "features": " ".join(machine.cpu_features),
        "float32 multiply-adds": peaks,
        "memory": memory,
        "system": f"{machine.operating_system}, Linux {machine.kernel}",
        "runs in": ", ".join(filter(None, (machine.container, machine.hypervisor))),
        "emulated": machine.emulated,
        "governor": machine.governor,
        "clock": _with_unit(machine.frequency_mhz, "MHz"),
        "temperature": _with_unit(machine.temperature_celsius, "°C"),
        "load at the start": None if machine.load is None else f"{machine.load:.2f}",
        "Python": machine.python,
        "packages": ", ".join(f"{name} {version}" for name, version in machine.packages.items()),
        "measured": run.created_at,
        "commit": f"{run.git_commit}, with changes" if run.git_dirty else run.git_commit,
        "plan": ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in run.settings.items() if v),
    }
    rows = tuple((name, value) for name, value in facts.items() if value)
    return PageSection("machine", "Machine", (), PageTable(("", ""), rows, 2, prose=1))


def _with_unit(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{value:,.0f} {unit}"


def changes_section(comparison: Comparison, base: str) -> PageSection:
    """Return the changes since a base run, cell by cell.

    Args:
        comparison: the comparison with the base run.
        base: name of the base run.
    """
    changes = comparison.changes
    styles = {"slower": "bad", "faster": "good", "invalid": "doubtful"}
    in_order = sorted(changes, key=lambda change: change.base.key)
    rows = [
        (
            change.base.artifact,
            change.base.target,
            change.verdict,
            str(change.base.num_threads),
            str(change.base.batch_size),
            microseconds(change.base.p50_s),
            microseconds(change.new.p50_s),
            f"{change.ratio.value:.3f}",
            f"{change.ratio.low:.3f}–{change.ratio.high:.3f}",
            points(change.accuracy_change, "+"),
        )
        for change in in_order
    ]
    columns = ("file", "runtime", "verdict", "threads", "batch", "base µs", "new µs", "ratio",
               "95 % interval", "accuracy, pp")  # fmt: skip
    table = PageTable(
        columns, tuple(rows), 3, tuple(styles.get(change.verdict, "") for change in in_order)
    )
    # The table already shows slower cells, so the notes accept any slowdown.
    regressions = [
        f"{change.cell}: {reason}."
        for change in changes
        if (reason := change.regression(fail_above=math.inf))
    ]
    counts = [
        f"{count.cell}: {count.base.instructions:,.0f} to {count.new.instructions:,.0f}"
        f" instructions ({count.ratio - 1:+.2%})."
        for count in comparison.counts
    ]
    latencies = (f"{count_verdicts(changes)}.", "Equal: the 95 % interval of the ratio contains 1.")
    notes = (
        *(latencies if changes else ()),
        *counts,
        *([f"{comparison.note}."] if comparison.note else []),
        *regressions,
        *comparison.unmatched,
    )
    return PageSection("changes", f"Change since {base}", notes, table if changes else None)


def boards_section(boards: Sequence[BenchRun]) -> PageSection:
    """Return the latency of each file on each of several equal boards."""
    matrix, outliers = board_matrix(boards), find_outliers(boards)
    notes = [
        f"Median latency at batch {matrix.batch_size} in µs, on the fastest runtime of each board."
        " Relative: latency divided by that of equal boards."
    ]
    by_board = list(zip(boards, matrix.rows, relative_latencies(boards), strict=True))
    if len(boards) > _MAX_BOARDS:
        by_board.sort(key=lambda row: -(row[2] or 0.0))
        notes[0] += " The slowest boards come first."
    rows = [
        (
            run.board or MISSING,
            *(microseconds(cell.p50_s if cell else None) for cell in cells),
            MISSING if relative is None else f"{relative:.2f}",
        )
        for run, cells, relative in by_board
    ]
    if len(boards) > 1:
        notes.append("The sections below pool the valid processes of all these boards.")
    notes += [f"{name} {reason}." for name, reason in outliers.items()]
    styles = tuple("doubtful" if row[0] in outliers else "" for row in rows)
    table = PageTable(("board", *matrix.files, "relative"), tuple(rows), 1, styles)
    return PageSection("boards", "Boards", tuple(notes), table if matrix.files else None)
