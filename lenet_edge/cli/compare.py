"""lenet-edge compare"""

from __future__ import annotations

from pathlib import Path

import click

from lenet_edge.cli._options import json_option, percent
from lenet_edge.cli._terminal import GATE_FAILED, output


@click.command("compare")
@click.argument("base", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("new", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--fail-above",
    callback=percent,
    metavar="P%",
    default="0%",
    show_default=True,
    help="How much slower a cell may be; one not shown to be slower always passes.",
)
@json_option
def command(base: Path, new: Path, fail_above: float, json_file: Path | None) -> None:
    """Tell what became faster, slower or wrong between two runs of one machine.

    BASE and NEW are files of bench --json (or the results.json of run). Two latencies differ
    when the 95 % interval of their ratio, over calls and processes, does not contain 1. The exit
    status is 3 when a cell is slower, no longer valid or no longer passes parity.

    \b
    Example: lenet-edge compare base.json new.json --fail-above 5%
    """
    from lenet_edge.report.comparison import compare
    from lenet_edge.report.latency import comparison_view
    from lenet_edge.results.result_file import BenchRun

    old = BenchRun.load(base)
    changes, lonely = compare(old, BenchRun.load(new))
    facts = {
        "changes": [one.to_json(fail_above) for one in changes],
        "only_in_one": lonely,
    }
    output(comparison_view(old, changes, lonely, fail_above), facts, json_file)
    if any(one.regression(fail_above) for one in changes):
        raise click.exceptions.Exit(GATE_FAILED)
