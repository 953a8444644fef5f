"""Shared parts of the terminal views: lines on verdicts, skips and machines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TypeVar

from rich.text import Text

from lenet_edge.machine.environment import Environment
from lenet_edge.report.doubts import disturbance_line, invalid_lines
from lenet_edge.report.recommend import NothingFits, Recommendation
from lenet_edge.results.enough_images import other_reasons, too_few_images
from lenet_edge.results.formatting import machine_name
from lenet_edge.results.result_file import BenchRun, Measurement, ParityReport, Skipped

_MAX_UNAVAILABLE = 6  # names of unavailable targets; `lenet-edge targets` lists all
Row = TypeVar("Row", Measurement, ParityReport)


def group_by_file(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    """Return measurements or parity reports by the file name of their artifact."""

    def file(row: Row) -> str:
        return row.artifact if isinstance(row, Measurement) else row.candidate

    return [(name, list(group)) for name, group in groupby(sorted(rows, key=file), key=file)]


def machine_line(environment: Environment) -> Text:
    """Return a line with the machine, its operating system and its Python version."""
    system = f"{environment.operating_system}, Python {environment.python}"
    return Text(f"{machine_name(environment)}, {system}", style="dim")


def advice_line(advice: Recommendation | NothingFits) -> Text:
    """Return the recommendation in green, in yellow if it is not proven right, or in red."""
    if not advice:
        return Text(str(advice), style="bold red")
    return Text(str(advice), style="bold green" if advice.verdict == "pass" else "bold yellow")


def verdict_style(report: ParityReport) -> str | None:
    """Return the color of a parity report's verdict."""
    return {"pass": None, "fail": "red"}.get(report.verdict, "yellow")


def verdict_lines(reports: Iterable[ParityReport]) -> list[Text]:
    """Return a line for each pair that did not pass, and one for all that have too few images."""
    lines: list[Text] = []
    reports = list(reports)
    for report in reports:
        reasons_left = other_reasons(report)
        if report.verdict == "pass" or (report.reasons and not reasons_left):
            continue
        if report.target == "null":
            text = f"{report.candidate} on null: it predicts nothing, and measures the harness."
            lines.append(Text(text, style="dim"))
            continue
        start = "Do not use" if report.verdict == "fail" else "Inconclusive:"
        reasons = "; ".join(reasons_left) or "it exceeds its bounds"
        line = f"{start} {report.candidate} on {report.target}: {reasons}."
        lines.append(Text(line, style=verdict_style(report) or ""))
        if report.diagnosis:
            lines.append(Text(f"  {report.diagnosis}", style="bold red"))
    if few := too_few_images(reports):
        lines.append(Text(f"Inconclusive: {few}.", style="yellow"))
    return lines


def skipped_lines(skipped: Sequence[Skipped]) -> list[Text]:
    """Return a line for each reason, and one line for all unavailable targets."""
    groups: dict[str, list[Skipped]] = {}
    for skip in skipped:
        if skip.artifact:
            groups.setdefault(skip.reason.removeprefix(f"{skip.target} "), []).append(skip)
    lines = [
        Text(
            f"skipped {', '.join(dict.fromkeys(skip.target for skip in group))}: {reason}"
            f" ({', '.join(dict.fromkeys(skip.artifact or '' for skip in group))})",
            style="yellow",
        )
        for reason, group in groups.items()
    ]
    unavailable = list(dict.fromkeys(skip.target for skip in skipped if not skip.artifact))
    if unavailable:
        names = ", ".join(unavailable[:_MAX_UNAVAILABLE])
        rest = len(unavailable) - _MAX_UNAVAILABLE
        more = f" and {rest} more" if rest > 0 else ""
        lines.append(Text(f"Unavailable: {names}{more}; see lenet-edge targets", style="dim"))
    return lines


def delegation_lines(rows: Sequence[Row]) -> list[Text]:
    """Return a line for each pair with a partial delegation or a named device."""
    styles = {}
    for file, of_file in group_by_file(rows):
        for row in of_file:
            delegation = row.delegation
            if delegation and delegation.falls_back:
                styles[f"partial: {file} on {row.target}: {delegation}"] = "yellow"
            elif delegation and (delegation.device or not delegation.is_complete):
                styles[f"{file} on {row.target}: {delegation}"] = "dim"
    return [Text(line, style=style) for line, style in styles.items()]


def doubt_lines(run: BenchRun) -> list[Text]:
    """Return a line for each doubt about the machine, one for all disturbed cells, and errors."""
    lines = [f"doubtful: {warning}" for warning in run.environment.lasting_warnings]
    lines += filter(None, [disturbance_line(run)])
    return [
        *(Text(line, style="yellow") for line in lines),
        *(Text(f"invalid: {line}", style="red") for line in invalid_lines(run)),
    ]
