"""The command ``lenet-edge doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lenet_edge.cli._help import Command, Section, StringChoice, option
from lenet_edge.cli._options import DEFAULT_DIR, json_option
from lenet_edge.cli._terminal import GATE_FAILED, output, say

if TYPE_CHECKING:
    from lenet_edge.doctor.finding import Finding

_STYLES = {"ok": "green", "note": "dim", "warning": "yellow", "failure": "red"}


@click.command("doctor", cls=Command, section=Section.MACHINE, position=1)
@option(
    "What to check",
    "--job",
    type=StringChoice(["host", "board"]),
    help="Purpose of the machine: a host trains and exports, a board runs models. Default: host"
    " if TensorFlow is installed.",
)
@json_option
def command(job: str | None, json_file: Path | None) -> None:
    """Find problems of this machine, with their causes and fixes.

    Each runtime and package is tried in its own process. The exit status is 3 if the machine
    cannot do its job. Warnings and notes do not change it.

    \b
    Example: lenet-edge doctor --job board
    """
    from dataclasses import asdict

    from lenet_edge.doctor.checks import default_job, run_checks

    job = job or default_job()
    findings = run_checks(job, DEFAULT_DIR, lambda check: say(f"Checking {check}"))
    able = not any(finding.status == "failure" for finding in findings)
    facts = {"job": job, "able": able, "findings": [asdict(finding) for finding in findings]}
    output(_view(findings, job, able), facts, json_file)
    if not able:
        raise SystemExit(GATE_FAILED)


def _view(findings: list[Finding], job: str, able: bool) -> Any:
    from rich.console import Group

    from lenet_edge.report.terminal.table import TableColumn, TerminalTable, texts

    table = TerminalTable([*texts("", ""), TableColumn("", "prose")])
    for finding in findings:
        details = (("Cause", finding.cause), ("Fix", finding.fix), ("See", finding.see))
        lines = [finding.found, *(f"{name}: {text}" for name, text in details if text)]
        style = _STYLES[finding.status]
        table.row(finding.status, finding.check, "\n".join(lines), styles=[style])
    can = "can do its job" if able else "cannot do its job"
    work = "train and export" if job == "host" else "run models"
    return Group(table, f"This machine {can} as a {job}: {work}.")
