"""lenet-edge report"""

from __future__ import annotations

import re
from pathlib import Path

import click

from lenet_edge.cli._options import json_option
from lenet_edge.cli._terminal import output, say, spinner

_UNITS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}


def _seconds(ctx: click.Context, option: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    found = re.fullmatch(r"([\d.]+) ?(us|µs|ms|s)", value)
    try:
        return float(found[1]) * _UNITS[found[2]] if found else _no_time(value)
    except ValueError:
        return _no_time(value)


def _no_time(value: str) -> float:
    raise click.BadParameter(f"{value!r} is not a time such as 50us, 2ms or 1s")


@click.command("report")
@click.argument("results", nargs=-1, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "page_file",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("report.html"),
    show_default=True,
    help="A page (.html) or the same as Markdown (.md).",
)
@click.option(
    "--max-accuracy-drop",
    type=click.FloatRange(0, 100),
    metavar="PP",
    help="Percentage points that the file may lose; what parity allows if left out.",
)
@click.option(
    "--max-latency", callback=_seconds, metavar="TIME",
    help="What a batch may take, such as 50us, 2ms or 1s.",
)  # fmt: skip
@click.option("--max-bytes", type=click.IntRange(1), metavar="N", help="What the file may weigh.")
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    metavar="N",
    help="Choose for this batch; for the smallest that was measured if left out.",
)
@click.option(
    "--compare", "base", type=click.Path(path_type=Path, dir_okay=False), metavar="BASE.json",
    help="Tell the change since this earlier run of the same machine.",
)  # fmt: skip
@json_option
def command(
    results: tuple[Path, ...],
    page_file: Path,
    max_accuracy_drop: float | None,
    max_latency: float | None,
    max_bytes: int | None,
    batch_size: int | None,
    base: Path | None,
    json_file: Path | None,
) -> None:
    """Turn results into one page that says which file to ship, and why.

    RESULTS are files of bench --json, verify --json or run; demo/results.json if left out. Those
    of one machine are joined, those of several machines keep a ranking each; the equal boards of
    a fleet share one, beside a table of what each of them does. The page needs no
    other file and no network.

    \b
    Example: lenet-edge report demo/results.json --max-latency 50us
    """
    from lenet_edge.errors import DataError
    from lenet_edge.report import page
    from lenet_edge.report.eligibility import Limits
    from lenet_edge.results.result_file import BenchRun, load_runs

    if not results:
        results = (Path("demo") / "results.json",)
        if not results[0].exists():
            raise DataError(
                f"there is no {results[0]}; make it with: lenet-edge run, or name result files"
            )
    with spinner("Making the report"):  # that of a large fleet takes minutes
        machines = page.write(
            page_file,
            [(path.name, run) for path in results for run in load_runs(path)],
            Limits(max_accuracy_drop, max_latency, max_bytes, batch_size),
            None if base is None else (base.name, BenchRun.load(base)),
        )
    from rich.console import Group
    from rich.text import Text

    lines = []
    for one in machines:
        if len(machines) > 1:
            lines.append(Text(one.name, style="dim"))
        lines.append(Text(str(one.advice), style="bold green" if one.advice else "bold red"))
    facts = [{"machine": one.name, **one.advice.to_json()} for one in machines]
    output(Group(*lines), facts, json_file)
    say(f"The report is in {page_file}.")
