"""The details of one parity report: classes, confusions, flips, confidence and layers."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from lenet_edge.results.parity_report import LayerError, ParityReport

_MOST = 10  # rows of a list; all of them are in the JSON


def parity_details(report: ParityReport) -> list[RenderableType]:
    """Return what there is to say of one file on one target beyond its row in the table."""
    lines = [f"Mean logit error {report.mean_abs_error:.2e}, largest {report.max_abs_error:.2e}."]
    if report.reference_confidence is not None and report.candidate_confidence is not None:
        lines.append(
            f"Mean confidence {report.candidate_confidence:.4f}, was"
            f" {report.reference_confidence:.4f}; an image drifts by"
            f" {report.confidence_drift or 0:.1e}."
        )
    if report.delegation:
        lines.append(f"{report.delegation}.")
    shown: list[RenderableType] = [Text(line) for line in lines]
    if report.per_class:
        shown += _classes(report)
    if report.flips:
        shown.append(_flips(report))
    return shown


def _classes(report: ParityReport) -> list[RenderableType]:
    worst = sorted(
        (one for one in report.per_class if one.num_samples),
        key=lambda one: one.candidate_right / one.num_samples,
    )[:_MOST]
    names = [one.name for one in report.per_class]
    said = ", ".join(f"{one.name} {one.candidate_right / one.num_samples:.1%}" for one in worst)
    shown: list[RenderableType] = [Text(f"Accuracy by class, worst first: {said}.")]
    mistakes = sorted(
        ((count, names[label], names[found])
         for label, row in enumerate(report.confusion)
         for found, count in enumerate(row)
         if count and label != found),
        reverse=True,
    )[:_MOST // 2]  # fmt: skip
    if mistakes:
        said = ", ".join(f"{label} for {found} {count}" for count, label, found in mistakes)
        shown.append(Text(f"Taken for (label for answer): {said}."))
    return shown


def _flips(report: ParityReport) -> Table:
    left_out = len(report.flips) - _MOST
    table = _table("flips" if left_out <= 0 else f"flips, the first {_MOST}")
    for name in ("image", "label", "was", "confidence", "is", "confidence"):
        table.add_column(name, justify="right")
    for flip in report.flips[:_MOST]:
        table.add_row(
            f"{flip.index}", "–" if flip.label is None else f"{flip.label}", f"{flip.was}",
            _two(flip.was_confidence), "NaN" if flip.now < 0 else f"{flip.now}",
            _two(flip.confidence),
        )  # fmt: skip
    return table


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def layers_view(layers: Sequence[LayerError], title: str) -> list[RenderableType]:
    """Return the layers of a quantized file, the worst first, and the hint on that one."""
    table = _table(title)
    table.add_column("layer, worst first", max_width=24, no_wrap=True)
    table.add_column("kind", max_width=17, no_wrap=True)
    for name in ("SQNR dB", "lost dB", "max err", "clipped"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in layers:
        table.add_row(
            one.name, one.kind, "exact" if one.sqnr_db is None else f"{one.sqnr_db:.1f}",
            f"{one.lost_db:.1f}", f"{one.max_abs_error:.2g}", f"{one.saturation:.2%}",
        )  # fmt: skip
    if not layers:
        return []
    said = f"{layers[0].name}: {layers[0].hint}" if layers[0].hint else "No layer loses a whole bit"
    return [table, Text(f"{said}.")]


def _table(title: str) -> Table:
    return Table(
        title=title, title_style="bold", title_justify="left", box=None, padding=(0, 1, 0, 0),
        header_style="dim",
    )  # fmt: skip
