"""The command ``lenet-edge targets``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet_edge.cli._console import TERMINAL
from lenet_edge.cli._help import Command, Section
from lenet_edge.cli._options import json_option
from lenet_edge.cli._terminal import output

if TYPE_CHECKING:
    from lenet_edge.selection import TargetStatus


@click.command("targets", cls=Command, section=Section.MACHINE, position=2)
@json_option
def command(json_file: Path | None) -> None:
    """List the targets that can run models on this machine.

    Each target runs a tiny model in its own process, and the result is checked. Targets that
    cannot run are listed with the reason.

    \b
    Example: lenet-edge targets
    """
    from lenet_edge.flows.targets import probe_targets

    statuses = probe_targets(TERMINAL)
    facts = [
        {
            **dataclasses.asdict(status.target),
            "works": status.works,
            "detail": status.detail,
            "delegation": status.delegation and dataclasses.asdict(status.delegation),
        }
        for status in statuses
    ]
    output(_view(statuses), facts, json_file)


def _view(statuses: Sequence[TargetStatus]) -> object:
    from rich.console import Group
    from rich.text import Text

    from lenet_edge.report.terminal.table import TerminalTable, texts

    table = TerminalTable(texts("works", "runs", "version and device"))
    missing: dict[str, list[str]] = {}
    for status in statuses:
        if status.works:
            formats = ", ".join(status.target.formats)
            table.row(status.target.name, formats, _detail(status), styles=["green"])
        else:
            missing.setdefault(status.detail, []).append(status.target.name)
    title = Text("\nCannot run on this machine:") if missing else Text("")
    lines = [
        Text(f"{', '.join(names)}: {reason}", style="dim") for reason, names in missing.items()
    ]
    return Group(table, title, *lines)


def _detail(status: TargetStatus) -> str:
    delegation = status.delegation
    if delegation is None or delegation.device is None:
        return status.detail
    software = " (software)" if delegation.emulated else ""
    return f"{status.detail}, {delegation.device}{software}"
