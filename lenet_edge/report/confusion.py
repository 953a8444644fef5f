"""Confusion matrix of one pair in the report, and its most frequent mistakes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lenet_edge.report.page_tables import PageSection, PageTable
from lenet_edge.report.recommend import NothingFits, Recommendation
from lenet_edge.results.formatting import plural
from lenet_edge.results.result_file import BenchRun, ParityReport

_MAX_CLASSES = 20  # of a matrix; above, only the mistakes are listed
_MAX_MISTAKES = 20
_LEVELS = 4  # shades of the mistakes; report.css has a class for each

_Mistake = tuple[int, int, int]  # label, prediction and number of images
_Row = tuple[str, tuple[tuple[int, str], ...]]  # label, and count and shade of each prediction


@dataclass(frozen=True)
class ConfusionMatrix:
    """Number of images by label and predicted class.

    Attributes:
        names: names of the classes.
        rows: each row with its label and its cells; a cell has its count and its shade: "right",
            "" for no image, or "level1" to "level4".
        section: heading, notes and the most frequent mistakes.
    """

    names: tuple[str, ...]
    rows: tuple[_Row, ...]
    section: PageSection


def confusion_matrix(run: BenchRun, advice: Recommendation | NothingFits) -> ConfusionMatrix | None:
    """Return the matrix of the recommended pair, or else of the first one; None without labels."""
    reports = [report for report in run.parity if report.confusion]
    if isinstance(advice, Recommendation):
        chosen = advice.measurement
        reports.sort(
            key=lambda report: (report.candidate, report.target)
            != (chosen.artifact, chosen.target)
        )  # fmt: skip
    if not reports:
        return None
    report = reports[0]
    names = _class_names(report)
    mistakes = _mistakes(report)
    is_small = len(names) <= _MAX_CLASSES
    rows = _rows(report, names, mistakes) if is_small else ()
    return ConfusionMatrix(names, rows, _section(report, names, mistakes, is_small))


def _class_names(report: ParityReport) -> tuple[str, ...]:
    """Return the names of the classes; their numbers if the report lacks names."""
    width = max(len(report.confusion), *map(len, report.confusion))
    names = tuple(count.name for count in report.per_class)
    return names if len(names) == width else tuple(map(str, range(width)))


def _mistakes(report: ParityReport) -> list[_Mistake]:
    """Return each kind of mistake, the most frequent first."""
    mistakes = [
        (label, prediction, count)
        for label, row in enumerate(report.confusion)
        for prediction, count in enumerate(row)
        if count and label != prediction
    ]
    return sorted(mistakes, key=lambda mistake: -mistake[2])


def _rows(
    report: ParityReport, names: tuple[str, ...], mistakes: list[_Mistake]
) -> tuple[_Row, ...]:
    most = max((count for _, _, count in mistakes), default=0)
    return tuple(
        (
            names[label],
            tuple(
                (count, "right" if label == prediction else _shade(count, most))
                for prediction, count in enumerate(row)
            ),
        )
        for label, row in enumerate(report.confusion)
    )


def _shade(count: int, most: int) -> str:
    return f"level{math.ceil(_LEVELS * math.log1p(count) / math.log1p(most))}" if count else ""


def _section(
    report: ParityReport, names: tuple[str, ...], mistakes: list[_Mistake], is_small: bool
) -> PageSection:
    rows = [
        (
            names[label],
            names[prediction],
            f"{count:,}",
            f"{100 * count / max(1, sum(report.confusion[label])):.2f}",
        )
        for label, prediction, count in mistakes[:_MAX_MISTAKES]
    ]
    wrong = sum(count for _, _, count in mistakes)
    layout = " A row is a label, a column a predicted class." if is_small else ""
    note = (
        f"{report.candidate} on {report.target} is wrong on {wrong:,} of {report.samples}.{layout}"
    )
    title = f"{plural(len(mistakes), 'kind')} of mistake"
    if len(mistakes) > len(rows):
        title = f"The {len(rows)} most frequent of {title}"
    columns = ("label", "predicted", "images", "% of the label")
    table = PageTable(columns, tuple(rows), 2) if rows else None
    return PageSection("confusion", "Confusion matrix", (note,), table, title)
