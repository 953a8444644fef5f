"""The command ``lenet-edge estimate``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet_edge.cli._help import TARGETS, Command, Section, option
from lenet_edge.cli._options import DEFAULT_DIR, files_argument, json_option
from lenet_edge.cli._terminal import output, progress_bar

if TYPE_CHECKING:
    from lenet_edge.npu_estimate import NpuEstimate


@click.command("estimate", cls=Command, section=Section.MEASURE, position=6)
@files_argument
@option(
    TARGETS,
    "accelerators",
    "--accelerator",
    multiple=True,
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
    from lenet_edge.npu_estimate import ACCELERATORS, estimate_npu
    from lenet_edge.selection import load_artifacts

    for name in accelerators:
        if name not in ACCELERATORS:
            raise click.BadParameter(
                f"{name!r}; choose from {', '.join(ACCELERATORS)}", param_hint="--accelerator"
            )
    chosen = accelerators or tuple(one for one in ACCELERATORS if "u85" not in one)
    artifacts = load_artifacts(files or (DEFAULT_DIR / "lenet_int8.tflite",), DEFAULT_DIR)
    found = []
    with progress_bar("Estimate", len(artifacts) * len(chosen)) as step:
        for artifact in artifacts:
            for accelerator in chosen:
                found.append(estimate_npu(artifact, accelerator))
                step(f"{artifact.name} on {accelerator}")
    output(_view(found), [dataclasses.asdict(one) for one in found], json_file)


def _view(found: list[NpuEstimate]) -> object:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from lenet_edge.results.formatting import microseconds

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("")
    for column in ("est. µs", "at MHz", "nodes", "SRAM kB", "DRAM kB", "flash kB"):
        table.add_column(column, justify="right")
    for file in dict.fromkeys(one.artifact for one in found):
        table.add_row(Text(file, style="bold"))
        for one in (one for one in found if one.artifact == file):
            flash = one.on_chip_flash_bytes + one.off_chip_flash_bytes
            table.add_row(
                one.accelerator,
                microseconds(one.latency_s),
                f"{one.clock_mhz:.0f}",
                f"{one.nodes_taken}/{one.nodes_total}",
                *(f"{size / 1e3:.1f}" for size in (one.sram_bytes, one.dram_bytes, flash)),
                style=None if one.nodes_taken == one.nodes_total else "yellow",
            )
    systems = ", ".join(dict.fromkeys(f"{one.system_config} ({one.memory_mode})" for one in found))
    note = (
        f"Estimated by Vela {found[0].vela_version} for {systems}, batch 1; not measured, not to"
        " be ranked with measurements."
    )
    return Group(table, Text(f"\n{note}", style="dim"))
