"""The command ``lenet-edge history``."""

from __future__ import annotations

from pathlib import Path

import click

from lenet_edge.cli._help import OUTPUT, Command, Section, option
from lenet_edge.cli._options import json_option
from lenet_edge.cli._outputs import OutputFile
from lenet_edge.cli._terminal import output, say, spinner


@click.command("history", cls=Command, section=Section.MEASURE, position=7)
@click.argument("results", type=click.Path(path_type=Path))
@option(
    OUTPUT, "plot_file", "--plot", type=OutputFile(".png", ".svg"), metavar="FILE",
    help="Also draw each figure over the commits, as FILE.png or FILE.svg.",
)  # fmt: skip
@json_option
def command(results: Path, plot_file: Path | None, json_file: Path | None) -> None:
    """Show how results changed over commits.

    It lists latency, instructions, accuracy and bytes of each cell, and the change points. RESULTS
    is a folder of result files, in folders of any depth: files of bench --json, verify
    --json or run. Each has the commit of its models. Each machine has its own series, and
    instructions have one series for all machines.

    \b
    Example: lenet-edge history benchmarks/results
    """
    from lenet_edge.flows.history import read_history
    from lenet_edge.report.terminal.history import history_view

    with spinner("Reading the results"):
        series = read_history(results, say)
    has_course = any(len(each.points) > 1 for each in series)
    if plot_file and has_course:
        from lenet_edge.report.history_plot import plot_history

        plot_history(series, plot_file)
    output(history_view(series), [each.to_json() for each in series], json_file)
    if plot_file:
        say(
            f"The plot is in {plot_file}."
            if has_course
            else "No figure was measured at two commits, so there is no plot yet."
        )
