"""The command ``lenet-edge estimate``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet_edge.cli._console import TERMINAL
from lenet_edge.cli._help import TARGETS, Command, Section, check_choice, option
from lenet_edge.cli._options import DEFAULT_DIR, files_argument, json_option
from lenet_edge.cli._terminal import output

if TYPE_CHECKING:
    from lenet_edge.npu_estimate import NpuEstimate


def _check_accelerators(
    ctx: click.Context, parameter: click.Parameter, names: tuple[str, ...]
) -> tuple[str, ...]:
    if names:
        from lenet_edge.npu_estimate import ACCELERATORS

        for name in names:
            check_choice(name, ACCELERATORS)
    return names


@click.command("estimate", cls=Command, section=Section.MEASURE, position=6)
@files_argument
@option(
    TARGETS,
    "accelerators",
    "--accelerator",
    multiple=True,
    callback=_check_accelerators,
    metavar="NAME",
    help="Accelerator: ethos-u55-32, -64, -128, -256; ethos-u65-256, -512; ethos-u85-128 to -2048."
    " Repeatable. Default: every U55 and U65.",
)
@json_option
def command(files: tuple[Path, ...], accelerators: tuple[str, ...], json_file: Path | None) -> None:
    """Estimate the latency and memory of int8 files on an Arm Ethos-U.

    FILES are .tflite files; the default is ./exported/lenet_int8.tflite. Arm's compiler Vela
    estimates latency and memory without running the model. Estimates are never ranked together
    with the measurements of bench.

    \b
    Example: lenet-edge estimate --accelerator ethos-u55-128
    """
    from lenet_edge.flows.estimate import estimate

    estimates = estimate(files or (DEFAULT_DIR / "lenet_int8.tflite",), accelerators, TERMINAL)
    output(_view(estimates), [dataclasses.asdict(row) for row in estimates], json_file)


def _view(estimates: list[NpuEstimate]) -> object:
    from rich.console import Group
    from rich.text import Text

    from lenet_edge.report.terminal.table import TerminalTable, figures, texts
    from lenet_edge.results.formatting import microseconds

    names = "est. µs", "at MHz", "nodes", "SRAM kB", "DRAM kB", "flash kB"
    table = TerminalTable([*texts(""), *figures(*names)])
    for file in dict.fromkeys(estimate.artifact for estimate in estimates):
        table.start(file)
        for row in (estimate for estimate in estimates if estimate.artifact == file):
            flash = row.on_chip_flash_bytes + row.off_chip_flash_bytes
            table.row(
                row.accelerator,
                microseconds(row.latency_s),
                f"{row.clock_mhz:.0f}",
                f"{row.nodes_taken}/{row.nodes_total}",
                *(f"{size / 1e3:.1f}" for size in (row.sram_bytes, row.dram_bytes, flash)),
                style=None if row.nodes_taken == row.nodes_total else "yellow",
            )
    systems = dict.fromkeys(f"{row.system_config} ({row.memory_mode})" for row in estimates)
    note = (
        f"Estimated by Vela {estimates[0].vela_version} for {', '.join(systems)}, batch 1. These"
        " figures are not measured; do not rank them with measurements."
    )
    return Group(table, Text(f"\n{note}", style="dim"))
