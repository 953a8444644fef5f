"""The report as one HTML page that needs nothing else, or the same as Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_edge import __version__
from lenet_edge.errors import DataError, MissingPackageError
from lenet_edge.report import flipped_digits
from lenet_edge.report.charts.accuracy_latency import Point, pareto
from lenet_edge.report.charts.batch_scaling import limits_s, scaling
from lenet_edge.report.charts.common import Chart, Styles
from lenet_edge.report.charts.latency_spread import spreads
from lenet_edge.report.charts.svg import NUM_SERIES
from lenet_edge.report.comparison import compare
from lenet_edge.report.eligibility import Limits
from lenet_edge.report.join_runs import by_kind
from lenet_edge.report.machine_report import Machine, describe, with_changes
from lenet_edge.report.rank import latency_s, quantile_of
from lenet_edge.report.recommend import Recommendation
from lenet_edge.results.result_file import BenchRun, Measurement, ParityReport
from lenet_edge.support.files import atomic_write

_TEMPLATES = Path(__file__).parent / "templates"
_MARKS = {"o": "●", "s": "■", "D": "◆", "^": "▲", "v": "▼", "P": "✚", "X": "✖", "*": "★"}


@dataclass(frozen=True)
class Drawn:
    """The pictures of one machine; None where the results hold nothing to draw.

    `legend` is (target, number of its colour, mark).
    """

    legend: tuple[tuple[str, int, str], ...] = ()
    pareto: Chart | None = None
    pareto_note: str = ""
    spreads: Chart | None = None
    scaling: Chart | None = None
    scaling_note: str = ""
    digits: tuple[flipped_digits.Digit, ...] = ()
    num_digits: int = 0


@dataclass(frozen=True, repr=False)
class Report:
    """The report of some results, with a section for each machine.

    A notebook shows the whole page.
    """

    machines: tuple[Machine, ...]
    sources: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Report({'; '.join(str(machine.advice) for machine in self.machines)})"

    def _repr_html_(self) -> str:
        page = html.escape(self.render(".html"))
        return f'<iframe srcdoc="{page}" width="100%" height="800" frameborder="0"></iframe>'

    def render(self, suffix: str = ".html") -> str:
        """Return the page as text.

        Args:
            suffix: ".html" for a page that needs no other file, or ".md" for Markdown.

        Raises:
            MissingPackageError: Jinja2, or for HTML matplotlib or Pillow, is not installed.
        """
        template = _template(suffix)
        facts: dict[str, Any] = {
            "machines": self.machines, "sources": self.sources, "version": __version__,
        }  # fmt: skip
        if suffix == ".html":
            facts["drawn"] = [_draw(one, f"m{number}") for number, one in enumerate(self.machines)]
        return str(template.render(facts))

    def save(self, path: Path | str) -> None:
        """Write the page as HTML or Markdown, by the suffix of `path`.

        Raises:
            DataError: another suffix.
            MissingPackageError: Jinja2, or for HTML matplotlib or Pillow, is not installed.
            LenetEdgeError: the file cannot be written.
        """
        path = Path(path)
        text = self.render(checked_suffix(path))
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def checked_suffix(path: Path) -> str:
    """Return the suffix of a page.

    Raises:
        DataError: the suffix is neither .html nor .md.
        MissingPackageError: Jinja2 is not installed.
    """
    if path.suffix not in (".html", ".md"):
        raise DataError(f"{path}: a report is written as .html or .md; name it so")
    _template(path.suffix)
    return path.suffix


def build(
    results: Sequence[tuple[str, BenchRun]],
    limits: Limits | None = None,
    base: tuple[str, BenchRun] | None = None,
) -> Report:
    """Join the runs of each machine and recommend a file for each.

    Args:
        results: runs, each with the name of its source.
        limits: the limits for the recommended file.
        base: an earlier run, to show the changes since.

    Raises:
        DataError: `base` is of a machine that `results` do not have; or nothing was measured at
            the batch size of `limits`.
    """
    machines = [describe(kind, limits or Limits()) for kind in by_kind(run for _, run in results)]
    if base:
        machines = _compared(machines, *base)
    return Report(tuple(machines), tuple(dict.fromkeys(name for name, _ in results)))


def write(
    path: Path,
    results: Sequence[tuple[str, BenchRun]],
    limits: Limits | None = None,
    base: tuple[str, BenchRun] | None = None,
) -> Report:
    """Build the report of some results and write it; see `build` and `Report.save`."""
    checked_suffix(path)  # before the report, which takes minutes for a large fleet
    report = build(results, limits, base)
    report.save(path)
    return report


def _compared(machines: Sequence[Machine], name: str, base: BenchRun) -> list[Machine]:
    """Tell the machine that a base is of what changed; the others are left as they are."""
    identity = base.environment.identity
    same = [one for one in machines if one.run.environment.identity == identity] or machines[:1]
    return [
        with_changes(one, *compare(base, one.run), name) if one in same else one for one in machines
    ]


def _template(suffix: str) -> Any:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError:
        raise MissingPackageError("jinja2", "report") from None
    is_html = suffix == ".html"
    # Names and reasons come from anywhere: all that a template inserts is escaped.
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=is_html, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=None if is_html else _plain,
    )  # fmt: skip
    return environment.get_template(f"report{suffix}.jinja")


def _plain(value: object) -> str:
    """Return a value as one line of Markdown that means nothing but itself."""
    return re.sub(r"([\\`*\[\]<>|~#&$]|(?<!\w)_|_(?!\w))", r"\\\1", " ".join(str(value).split()))


def _draw(machine: Machine, name: str) -> Drawn:
    run, advice = machine.run, machine.advice
    # A checkpoint is the reference and no edge file, and `null` does nothing: tables have them.
    cells = [
        one
        for one in run.measurements
        if not one.artifact.endswith(".keras") and one.target != "null" and not one.invalid
    ]
    sheet, num_digits = flipped_digits.sheet(run.parity)
    if not cells:
        return Drawn(digits=tuple(sheet), num_digits=num_digits)
    styles = Styles([one.target for one in cells])
    chosen = advice.measurement if isinstance(advice, Recommendation) else None
    batch_size = chosen.batch_size if chosen else min(one.batch_size for one in cells)
    at_batch = [one for one in cells if one.batch_size == batch_size]
    points, what = _points(run, at_batch, chosen)
    batches = {one.batch_size for one in cells}
    return Drawn(
        legend=tuple(
            (target, number % NUM_SERIES + 1, _MARKS[styles.mark(target)])
            for number, target in enumerate(styles.targets)
        ),
        pareto=pareto(points, styles, what, f"{name}-pareto") if points else None,
        pareto_note=_pareto_note(run.parity),
        spreads=spreads(at_batch, styles, f"{name}-spreads"),
        scaling=scaling(run, cells, styles, f"{name}-scaling") if len(batches) > 1 else None,
        scaling_note=_scaling_note(run, cells),
        digits=tuple(sheet),
        num_digits=num_digits,
    )


def _points(
    run: BenchRun, cells: Sequence[Measurement], chosen: Measurement | None
) -> tuple[list[Point], str]:
    """Join latencies with accuracies, or where there are no labels with agreements."""
    reports = {(one.candidate_sha256, one.target): one for one in run.parity}
    both = [
        (one, reports[one.artifact_sha256, one.target])
        for one in cells
        if (one.artifact_sha256, one.target) in reports
    ]
    labelled = all(parity.candidate_accuracy is not None for _, parity in both)
    quantile = quantile_of(run)

    def right(parity: ParityReport) -> float:
        accuracy = parity.candidate_accuracy
        return parity.top1_agreement if accuracy is None or not labelled else accuracy

    found = [(one, latency_s(one, quantile), right(parity)) for one, parity in both]
    points = [
        Point(
            one, latency, accuracy,
            on_front=not any(
                other <= latency and better >= accuracy and (other, better) != (latency, accuracy)
                for _, other, better in found
            ),
            chosen=one is chosen,
        )
        for one, latency, accuracy in found
    ]  # fmt: skip
    return points, "accuracy" if labelled else "agreement"


def _pareto_note(reports: Sequence[ParityReport]) -> str:
    intervals = [one.accuracy_interval for one in reports]
    widths = [100 * (high - low) / 2 for low, high in filter(None, intervals)]
    if not widths:
        return ""
    return (
        f"An accuracy by itself is known to ± {max(widths):.2f} points (95 %), the number of test"
        " images being what it is; the files answer the same images, so that their differences"
        " are known far better: see the flips."
    )


def _scaling_note(run: BenchRun, cells: Sequence[Measurement]) -> str:
    dashed = " Dashed lines have several threads." if any(c.num_threads > 1 for c in cells) else ""
    limits = {threads: limit for one in cells for threads, limit in limits_s(run, [one])}
    if not limits:
        return (
            "No limit is drawn: these results do not hold what this machine can reach. A bench of"
            f" today measures it.{dashed}"
        )
    peaks = " and ".join(
        f"{run.peak_macs_per_s[n] / 1e9:.1f} billion a second ({n} thread{'s' if n > 1 else ''})"
        for n in limits
    )
    macs = " or ".join(f"{n:,}" for n in sorted(set(run.macs.values())))
    return (
        f"The dotted line is what the machine can do, not a file: an image needs {macs}"
        f" multiply-adds, and the best matrix product that NumPy reached on this machine, measured"
        f" in the same run, does {peaks} in float32. What computes in int8 may pass below it."
        f"{dashed}"
    )
