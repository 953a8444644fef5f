"""Terminal view of `verify`: verdicts and figures of each pair, and details of a single pair."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from lenet_edge.artifacts.head import Head
from lenet_edge.report.terminal.blocks import (
    delegation_lines,
    group_by_file,
    skipped_lines,
    verdict_lines,
    verdict_style,
)
from lenet_edge.report.terminal.table import TableColumn, TerminalTable, figures, texts
from lenet_edge.results.formatting import MISSING, percent, points
from lenet_edge.results.parity_report import LayerError, OutputReport, ParityReport
from lenet_edge.results.result_file import BenchRun

_MAX_ROWS = 10  # the JSON file has all rows
_VERDICTS = {"pass": "pass", "fail": "FAIL"}


def parity_view(run: BenchRun) -> RenderableType:
    """Return the parity reports of a run, one block for each file."""
    names = "acc %", "95 % CI", "drop", "p", "agree%", "flips", "max err"
    table = TerminalTable([*texts(""), *figures(*names, "")])
    # The figures of files that were compared output by output stand in tables of their own.
    by_image = [report for report in run.parity if not report.outputs]
    for file, reports in group_by_file(by_image):
        table.start(file)
        for report in reports:
            low, high = report.accuracy_interval or (None, None)
            table.row(
                report.target,
                percent(report.candidate_accuracy),
                f"{percent(low)}–{percent(high)}" if low is not None else MISSING,
                points(report.accuracy_drop),
                MISSING if report.mcnemar_p is None else f"{report.mcnemar_p:.3f}",
                percent(report.top1_agreement),
                f"{len(report.flips):,}",
                f"{report.max_abs_error:.1e}",
                _VERDICTS.get(report.verdict, "?"),
                style=verdict_style(report),
            )
    details = _details(run.parity[0]) if len(run.parity) == 1 else []
    for report in run.parity:
        details += _outputs(report)
    details += [
        Text(f"{note[0].upper()}{note[1:]}.")
        for note in dict.fromkeys(note for report in run.parity for note in report.notes)
    ]
    for report in run.parity:
        details += _layers(report.layers, f"\n{report.candidate}: layers")
    return Group(
        table,
        *details,
        *(delegation_lines(run.parity) if len(run.parity) > 1 else []),
        *verdict_lines(run.parity),
        *skipped_lines(run.skipped),
    )


def _details(report: ParityReport) -> list[RenderableType]:
    """Return the figures of a pair that its row in the table leaves out."""
    if report.outputs:  # the table of the outputs has the figures
        return [Text(f"{report.delegation}.")] if report.delegation else []
    output = "logit" if report.head in (None, "logits", "logit") else "output"
    lines = [
        f"Mean {output} error {report.mean_abs_error:.2e}, largest {report.max_abs_error:.2e}."
    ]
    if report.head == Head.VALUES:
        ratio = "no noise" if report.snr_db is None else f"{report.snr_db:.1f} dB"
        lines.append(
            f"The outputs are values and no classes, so their errors decide: signal-to-noise ratio"
            f" {ratio}."
        )
    if report.reference_confidence is not None and report.candidate_confidence is not None:
        lines.append(
            f"Mean confidence {report.candidate_confidence:.4f}, of the reference"
            f" {report.reference_confidence:.4f}; mean absolute change"
            f" {report.confidence_drift or 0:.1e}."
        )
    if report.delegation:
        lines.append(f"{report.delegation}.")
    details: list[RenderableType] = [Text(line) for line in lines]
    if report.per_class:
        details += _classes(report)
    if report.flips:
        details.append(_flips(report))
    return details


def _outputs(report: ParityReport) -> list[RenderableType]:
    """Return the table of the outputs of two files that were compared output by output."""
    if not report.outputs:
        return []
    names = "max err", "mean err", "SNR dB", "cosine", "agree%"
    table = TerminalTable(
        [*texts("output"), *figures(*names), *texts("bounds"), *figures("")],
        f"\n{report.candidate} on {report.target}, against {report.reference}",
    )
    for output in report.outputs:
        table.row(
            output.name or output.reference_name,
            f"{output.max_abs_error:.1e}",
            f"{output.mean_abs_error:.1e}",
            _ratio(output),
            MISSING if output.cosine is None else f"{output.cosine:.6f}",
            percent(output.top1_agreement),
            _limits(output, report),
            _VERDICTS.get(output.verdict, "?"),
            style="red" if output.verdict == "fail" else None,
        )
    return [table]


def _ratio(output: OutputReport) -> str:
    """Return the signal-to-noise ratio, "exact" without noise."""
    if output.snr_db is not None:
        return f"{output.snr_db:.1f}"
    return "exact" if output.num_values and output.max_abs_error == 0 else MISSING


def _limits(output: OutputReport, report: ParityReport) -> str:
    """Return the bounds that decided the verdict on an output."""
    bounds, is_real = output.bounds, output.snr_db is not None or output.top1_agreement is None
    texts = [
        f"{bounds.min_snr_db:g} dB" if bounds.min_snr_db is not None and is_real else "",
        f"cosine {bounds.min_cosine:g}" if bounds.min_cosine is not None else "",
        f"error {bounds.max_abs_error:g}" if bounds.max_abs_error is not None else "",
        f"{bounds.min_agreement:g} %"
        if bounds.min_agreement is not None
        and output.top1_agreement is not None
        and (report.inputs != "random" or not is_real)
        else "",
    ]
    return ", ".join(filter(None, texts)) or "any"


def _classes(report: ParityReport) -> list[Text]:
    worst = sorted(
        (count for count in report.per_class if count.num_samples),
        key=lambda count: count.candidate_right / count.num_samples,
    )[:_MAX_ROWS]
    accuracies = ", ".join(
        f"{count.name} {count.candidate_right / count.num_samples:.1%}" for count in worst
    )
    lines = [Text(f"Accuracy by class, worst first: {accuracies}.")]
    names = [count.name for count in report.per_class]
    mistakes = sorted(
        ((count, names[label], names[predicted])
         for label, row in enumerate(report.confusion)
         for predicted, count in enumerate(row)
         if count and label != predicted),
        reverse=True,
    )[:_MAX_ROWS // 2]  # fmt: skip
    if mistakes:
        pairs = ", ".join(f"{label} → {predicted} {count}" for count, label, predicted in mistakes)
        lines.append(Text(f"Most frequent mistakes (label → prediction): {pairs}."))
    return lines


def _flips(report: ParityReport) -> TerminalTable:
    hidden = len(report.flips) - _MAX_ROWS
    table = TerminalTable(
        figures("image", "label", "was", "confidence", "is", "confidence"),
        "flips" if hidden <= 0 else f"flips, the first {_MAX_ROWS}",
    )
    for flip in report.flips[:_MAX_ROWS]:
        table.row(
            f"{flip.index}",
            MISSING if flip.label is None else f"{flip.label}",
            f"{flip.was}",
            _confidence(flip.was_confidence),
            "NaN" if flip.now < 0 else f"{flip.now}",
            _confidence(flip.confidence),
        )
    return table


def _confidence(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"


def _layers(layers: Sequence[LayerError], title: str) -> list[RenderableType]:
    """Return the table of a quantized file's layers, worst first, and a hint on the worst."""
    if not layers:
        return []
    table = TerminalTable(
        [
            TableColumn("layer, worst first", "path"),
            TableColumn("kind"),
            *figures("SQNR dB", "lost dB", "max err", "clipped"),
        ],
        title,
    )
    for layer in layers:
        table.row(
            layer.name,
            layer.kind,
            "exact" if layer.sqnr_db is None else f"{layer.sqnr_db:.1f}",
            f"{layer.lost_db:.1f}",
            f"{layer.max_abs_error:.2g}",
            f"{layer.saturation:.2%}",
        )
    worst = layers[0]
    hint = f"{worst.name}: {worst.hint}" if worst.hint else "No layer loses more than one bit"
    return [table, Text(f"{hint}.")]
