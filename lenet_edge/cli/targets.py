"""lenet-edge targets"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from lenet_edge.cli._options import json_option
from lenet_edge.cli._terminal import output, progress_bar


@click.command("targets")
@json_option
def command(json_file: Path | None) -> None:
    """List what can run here, found out by running it.

    What cannot run is listed too, with the reason.

    \b
    Example: lenet-edge targets
    """
    from rich.table import Table

    from lenet_edge.runtimes import all_targets
    from lenet_edge.selection import probe

    statuses = []
    with progress_bar("Probe", len(all_targets())) as step:
        for target in all_targets():
            statuses.append(probe(target))
            step(target.name)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("target", "runs", "works", "version, or why not"):
        table.add_column(column, overflow="fold")
    for status in statuses:
        table.add_row(
            status.target.name,
            ", ".join(status.target.formats),
            "[green]yes[/]" if status.works else "[yellow]no[/]",
            status.detail.replace("[", r"\["),
        )
    facts = [
        {**dataclasses.asdict(one.target), "works": one.works, "detail": one.detail}
        for one in statuses
    ]
    output(table, facts, json_file)
