"""Report as one self-contained HTML page, or as Markdown."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_edge import __version__
from lenet_edge.errors import DataError, MissingPackageError
from lenet_edge.report.charts.accuracy_latency import Point, draw_accuracy_latency
from lenet_edge.report.charts.batch_scaling import draw_batch_scaling, float32_limits_s
from lenet_edge.report.charts.common import TargetStyles
from lenet_edge.report.charts.latency_spread import draw_latency_spread
from lenet_edge.report.charts.layer_bars import draw_layer_bars
from lenet_edge.report.charts.svg import NUM_SERIES
from lenet_edge.report.charts.training_curve import draw_training_curve
from lenet_edge.report.comparison import compare_runs
from lenet_edge.report.eligibility import Limits, is_exported
from lenet_edge.report.flipped_digits import FlippedDigit, flipped_digits
from lenet_edge.report.join_runs import group_by_machine
from lenet_edge.report.machine_report import MachineReport, report_on_machine, with_changes
from lenet_edge.report.rank import ranking_latency_s, ranking_quantile
from lenet_edge.report.recommend import Recommendation
from lenet_edge.results.formatting import plural
from lenet_edge.results.parity_report import worst_verdict
from lenet_edge.results.result_file import BenchRun, Measurement, ParityReport
from lenet_edge.support.command_line import current_command
from lenet_edge.support.files import atomic_write

_TEMPLATES = Path(__file__).parent / "templates"
# Characters for the legend that look like matplotlib's markers.
_LEGEND_MARKS = {"o": "●", "s": "■", "D": "◆", "^": "▲", "v": "▼", "P": "✚", "X": "✖", "*": "★"}


@dataclass(frozen=True)
class Pictures:
    """Charts and images of one machine; a chart is an <svg>, or None without anything to draw.

    Attributes:
        legend: target, number of its color, and mark.
        layers: the bars of each pair whose layers were timed.
        digits: the first images with a changed prediction.
        num_digits: number of all such images.
    """

    legend: tuple[tuple[str, int, str], ...] = ()
    accuracy: str | None = None
    accuracy_note: str = ""
    spread: str | None = None
    scaling: str | None = None
    scaling_note: str = ""
    layers: tuple[str, ...] = ()
    training: str | None = None
    digits: tuple[FlippedDigit, ...] = ()
    num_digits: int = 0


@dataclass(frozen=True, repr=False)
class Report:
    """Report on results, with a section for each machine. A notebook shows the whole page.

    Attributes:
        machines: content of the report, machine by machine.
        sources: names of the result files.
        command: command line that makes the report; None in a program.
    """

    machines: tuple[MachineReport, ...]
    sources: tuple[str, ...]
    command: str | None = None

    @property
    def verdict(self) -> str:
        """Worst verdict of all machines; "fail" if nothing may be shipped on one of them."""
        return worst_verdict({machine.advice.verdict for machine in self.machines})

    def __repr__(self) -> str:
        return f"Report({'; '.join(machine.advice.choice for machine in self.machines)})"

    def _repr_html_(self) -> str:
        page = html.escape(self.render(".html"))
        return f'<iframe srcdoc="{page}" width="100%" height="800" frameborder="0"></iframe>'

    def render(self, suffix: str = ".html") -> str:
        """Return the page as text.

        Args:
            suffix: ".html" for a self-contained page, or ".md" for Markdown.

        Raises:
            MissingPackageError: Jinja2, or for HTML matplotlib or Pillow, is not installed.
        """
        template = load_template(suffix)
        context: dict[str, Any] = {
            "machines": self.machines, "sources_of_report": self.sources, "version": __version__,
            "report_command": self.command,
        }  # fmt: skip
        if suffix == ".html":
            script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
            digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
            context |= {"script": script, "script_hash": f"sha256-{digest}"}
            context["pictures"] = [
                _draw(machine, f"m{number}") for number, machine in enumerate(self.machines)
            ]
        return str(template.render(context))

    def save(self, path: Path | str) -> None:
        """Write the page as HTML or Markdown, depending on the suffix of `path`.

        Raises:
            DataError: the suffix is neither .html nor .md.
            MissingPackageError: Jinja2, or for HTML matplotlib or Pillow, is not installed.
            LenetEdgeError: the file cannot be written.
        """
        path = Path(path)
        text = self.render(checked_suffix(path))
        with atomic_write(path) as temporary:
            # The name of a result file may contain bytes that are not UTF-8.
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def checked_suffix(path: Path) -> str:
    """Return the suffix of a page after checking that the page can be written.

    Raises:
        DataError: the suffix is neither .html nor .md.
        MissingPackageError: Jinja2 is not installed.
    """
    if path.suffix not in (".html", ".md"):
        raise DataError(f"{path}: a report is an .html or .md file; change the suffix")
    load_template(path.suffix)
    return path.suffix


def build(
    results: Sequence[tuple[str, BenchRun]],
    limits: Limits | None = None,
    base: tuple[str, BenchRun] | None = None,
) -> Report:
    """Join the runs of each machine, and recommend a file for each machine.

    Args:
        results: runs, each with the name of its source.
        limits: limits for the recommended file.
        base: an earlier run, with its name, to compare with.

    Raises:
        DataError: the base comes from a machine that `results` lack; or nothing was measured at
            the batch size in `limits`.
    """
    machines = [
        report_on_machine(boards, limits or Limits())
        for boards in group_by_machine(run for _, run in results)
    ]
    if base:
        machines = _compare_with(*base, machines)
    sources = tuple(dict.fromkeys(name for name, _ in results))
    return Report(tuple(machines), sources, current_command())


def write(
    path: Path,
    results: Sequence[tuple[str, BenchRun]],
    limits: Limits | None = None,
    base: tuple[str, BenchRun] | None = None,
) -> Report:
    """Build the report on some results and write it; see `build` and `Report.save`."""
    checked_suffix(path)  # fail early: the report on a large fleet takes minutes
    report = build(results, limits, base)
    report.save(path)
    return report


def _compare_with(
    name: str, base: BenchRun, machines: Sequence[MachineReport]
) -> list[MachineReport]:
    """Add the changes since a base run to the report on its machine.

    Raises:
        DataError: no report is on that machine.
    """
    identity = base.environment.identity
    # Without a match, comparing with the first machine raises the error.
    same = [m for m in machines if m.run.environment.identity == identity] or machines[:1]
    return [
        with_changes(machine, compare_runs(base, machine.run), name) if machine in same else machine
        for machine in machines
    ]


@functools.cache
def load_template(suffix: str, name: str = "report") -> Any:
    """Return a template for HTML or Markdown, which escapes all that it inserts.

    Raises:
        MissingPackageError: Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError:
        raise MissingPackageError("jinja2", "report") from None
    is_html = suffix == ".html"
    # Names and reasons are untrusted, so everything that a template inserts is escaped.
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=is_html, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=None if is_html else _escape_markdown,
    )  # fmt: skip
    return environment.get_template(f"{name}{suffix}.jinja")


def _escape_markdown(value: object) -> str:
    """Return a value as one line of Markdown without any markup."""
    return re.sub(r"([\\`*\[\]<>|~#&$]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(str(value).split()))


def _draw(machine: MachineReport, prefix: str) -> Pictures:
    """Return the pictures of one machine; `prefix` makes their element ids unique."""
    run, advice = machine.run, machine.advice
    digits, num_digits = flipped_digits(run.parity)
    layers = tuple(
        draw_layer_bars(times, f"{prefix}-layers{number}")
        for number, times in enumerate(run.layer_times, 1)
    )
    drawn = Pictures(
        layers=layers,
        training=(
            draw_training_curve(machine.curve, f"{prefix}-training")
            if machine.curve and machine.curve.epochs
            else None
        ),
        digits=tuple(digits),
        num_digits=num_digits,
    )
    cells = [cell for cell in run.measurements if is_exported(cell) and not cell.invalid]
    if not cells:
        return drawn
    styles = TargetStyles([cell.target for cell in cells])
    chosen = advice.measurement if isinstance(advice, Recommendation) else None
    batch_size = chosen.batch_size if chosen else min(cell.batch_size for cell in cells)
    at_batch = [cell for cell in cells if cell.batch_size == batch_size]
    points, quantity = _points(run, at_batch, chosen)
    several_batches = len({cell.batch_size for cell in cells}) > 1
    return dataclasses.replace(
        drawn,
        legend=tuple(
            (target, number % NUM_SERIES + 1, _LEGEND_MARKS[styles.mark(target)])
            for number, target in enumerate(styles.targets)
        ),
        accuracy=(
            draw_accuracy_latency(points, styles, quantity, f"{prefix}-accuracy")
            if points
            else None
        ),
        accuracy_note=_accuracy_note(run.parity),
        spread=draw_latency_spread(at_batch, styles, f"{prefix}-spread"),
        scaling=(
            draw_batch_scaling(run, cells, styles, f"{prefix}-scaling") if several_batches else None
        ),
        scaling_note=_scaling_note(run, cells),
    )


def _points(
    run: BenchRun, cells: Sequence[Measurement], chosen: Measurement | None
) -> tuple[list[Point], str]:
    """Return the latency and the accuracy of each verified cell, and the name of the latter.

    If any report lacks labels, the agreement with the reference replaces the accuracy.
    """
    reports = {(report.candidate_sha256, report.target): report for report in run.parity}
    verified = [
        (cell, reports[cell.artifact_sha256, cell.target])
        for cell in cells
        if (cell.artifact_sha256, cell.target) in reports
    ]
    labelled = all(report.candidate_accuracy is not None for _, report in verified)
    quantile = ranking_quantile(run)

    def right(report: ParityReport) -> float:
        accuracy = report.candidate_accuracy
        agreement = report.top1_agreement
        figure = agreement if accuracy is None or not labelled else accuracy
        return 0.0 if figure is None else figure

    figures = [(ranking_latency_s(cell, quantile), right(report)) for cell, report in verified]
    points = [
        Point(
            cell, latency, fraction,
            on_front=not any(
                other <= latency and better >= fraction and (other, better) != (latency, fraction)
                for other, better in figures
            ),
            chosen=cell is chosen,
        )
        for (cell, _), (latency, fraction) in zip(verified, figures, strict=True)
    ]  # fmt: skip
    return points, "accuracy" if labelled else "agreement"


def _accuracy_note(reports: Sequence[ParityReport]) -> str:
    intervals = [report.accuracy_interval for report in reports]
    widths = [100 * (high - low) / 2 for low, high in filter(None, intervals)]
    if not widths:
        return ""
    return (
        f"With this number of test images, each accuracy has a 95\u00a0% interval of"
        f" ±\u00a0{max(widths):.2f} points. All files are tested on the same images, so the"
        " differences between files are known more precisely."
    )


def _scaling_note(run: BenchRun, cells: Sequence[Measurement]) -> str:
    threads = " Dashed lines have several threads." if any(c.num_threads > 1 for c in cells) else ""
    limits = {number: limit for cell in cells for number, limit in float32_limits_s(run, [cell])}
    if not limits:
        return (
            "No limit is drawn, because these results do not contain the peak speed of the machine."
            f" The current version of bench measures it.{threads}"
        )
    peaks = " and ".join(
        f"{run.peak_macs_per_s[number] / 1e9:.1f} billion per second ({plural(number, 'thread')})"
        for number in limits
    )
    macs = " or ".join(f"{count:,}" for count in sorted(set(run.macs.values())))
    return (
        f"The dotted line is a limit of the machine. An image needs {macs} multiply-adds. The"
        f" fastest float32 matrix product of NumPy, measured in the same run, did {peaks}. Files"
        f" that compute in int8 may be below the line.{threads}"
    )
