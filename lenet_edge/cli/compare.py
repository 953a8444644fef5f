"""The command ``lenet-edge compare``."""

from __future__ import annotations

from pathlib import Path

import click

from lenet_edge.cli._help import Command, Section, option
from lenet_edge.cli._options import json_option, percent
from lenet_edge.cli._terminal import GATE_FAILED, output


@click.command("compare", cls=Command, section=Section.MEASURE, position=4)
@click.argument("base", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("new", type=click.Path(path_type=Path, dir_okay=False))
@option(
    "How to compare",
    "--fail-above",
    callback=percent,
    metavar="P%",
    default="0%",
    show_default=True,
    help="Fail if a cell is proven to be slower, or needs more instructions, by more than this"
    " percentage.",
)
@json_option
def command(base: Path, new: Path, fail_above: float, json_file: Path | None) -> None:
    """Show what became faster, slower or wrong between two runs.

    BASE and NEW are files of bench --json, or the results.json of run. Latencies must come from the
    same machine. Two latencies differ if the 95 % interval of their ratio, over calls and
    processes, does not contain 1. Instruction counts of bench --count may come from any machine,
    and have no interval. The exit status is 3 if a cell is slower, needs more instructions, is no
    longer valid, no longer passes parity, or is missing in NEW.

    \b
    Example: lenet-edge compare base.json new.json --fail-above 5%
    """
    from lenet_edge.report.comparison import compare_runs
    from lenet_edge.report.terminal.comparison import comparison_view
    from lenet_edge.results.result_file import BenchRun

    base_run = BenchRun.load(base)
    comparison = compare_runs(base_run, BenchRun.load(new))
    output(comparison_view(base_run, comparison, fail_above), comparison.to_json(fail_above),
           json_file)  # fmt: skip
    if comparison.has_regression(fail_above):
        raise click.exceptions.Exit(GATE_FAILED)
