"""The command ``lenet-edge report``."""

from __future__ import annotations

import re
from pathlib import Path

import click

from lenet_edge.cli._help import OUTPUT, Command, Section, option
from lenet_edge.cli._options import DEFAULT_DIR, is_given, json_option
from lenet_edge.cli._outputs import OutputFile
from lenet_edge.cli._terminal import exit_with, output, say, spinner

DEFAULT_RESULTS = Path("demo") / "results.json"
_SIZES = {"": 1, "k": 1024, "m": 1024**2}
_UNITS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}


def _seconds(ctx: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+) ?(us|µs|ms|s)", text)
    if match is None:
        raise click.BadParameter(f"{text!r} is not a time such as 50us, 2ms or 1s")
    return float(match[1]) * _UNITS[match[2]]


def _bytes(ctx: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,11}) ?([km]?)(?:i?b)?", text.lower())
    if match is None:
        raise click.BadParameter(f"{text!r} is not a number of bytes such as 65536, 256k or 1M")
    return int(match[1]) * _SIZES[match[2]]


def _or_default(
    ctx: click.Context, parameter: click.Parameter, results: tuple[Path, ...]
) -> tuple[Path, ...]:
    return results or (DEFAULT_RESULTS,)


_LIMITS, _CARD = "Limits for the recommended file", "Model card"


@click.command("report", cls=Command, section=Section.MEASURE, position=5)
@click.argument(
    "results", nargs=-1, type=click.Path(path_type=Path, dir_okay=False), callback=_or_default
)
@option(
    _LIMITS,
    "--max-accuracy-drop",
    type=click.FloatRange(0, 100),
    metavar="PP",
    help="Maximum loss of accuracy in percentage points. Default: the bound of verify.",
)
@option(
    _LIMITS, "--max-latency", callback=_seconds, metavar="TIME",
    help="Maximum latency of a batch, such as 50us, 2ms or 1s.",
)  # fmt: skip
@option(
    _LIMITS, "--max-bytes", callback=_bytes, metavar="SIZE",
    help="Maximum bytes to ship, such as 100000 or 256k (k is 1,024). A C file counts as built.",
)  # fmt: skip
@option(
    _LIMITS, "--max-flash", callback=_bytes, metavar="SIZE",
    help="Maximum flash of a microcontroller. Only files that ran on a Cortex-M have a figure.",
)  # fmt: skip
@option(
    _LIMITS, "--max-ram", callback=_bytes, metavar="SIZE",
    help="Maximum RAM of a microcontroller, with the stack.",
)  # fmt: skip
@option(
    _LIMITS,
    "--batch-size",
    type=click.IntRange(1),
    metavar="N",
    help="Recommend a file for this batch size. Default: the smallest that was measured.",
)
@option(
    OUTPUT,
    "page_file",
    "--output",
    type=OutputFile(".html", ".md"),
    default=Path("report.html"),
    show_default=True,
    help="Report to write, as a web page (.html) or as Markdown (.md).",
)
@option(
    OUTPUT, "--compare", "base", type=click.Path(path_type=Path, dir_okay=False),
    metavar="BASE.json",
    help="Add the changes since this earlier run of the same machine.",
)  # fmt: skip
@option(
    OUTPUT, "--history", "history", type=click.Path(path_type=Path), metavar="DIR",
    help="Add a chapter on the result files of this folder over commits; see history.",
)  # fmt: skip
@option(
    _CARD, "--card", is_flag=True,
    help="Write a model card instead of the page, README.md beside the model files.",
)  # fmt: skip
@option(
    _CARD, "--models", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
    help="Folder of the model files. Default: that of RESULTS, or else ./exported.",
)  # fmt: skip
@option(_CARD, "--license", metavar="ID",
        help="License of the model, such as apache-2.0.")  # fmt: skip
@option(_CARD, "--force", is_flag=True,
        help="Replace a README.md that is no card, or that you have edited.")  # fmt: skip
@json_option
def command(
    results: tuple[Path, ...],
    page_file: Path,
    max_accuracy_drop: float | None,
    max_latency: float | None,
    max_bytes: int | None,
    max_flash: int | None,
    max_ram: int | None,
    batch_size: int | None,
    base: Path | None,
    history: Path | None,
    card: bool,
    models: Path | None,
    license: str | None,
    force: bool,
    json_file: Path | None,
) -> None:
    """Write a page that recommends one file and gives the reasons.

    RESULTS are files of bench --json, verify --json or run; the default is demo/results.json. The
    page joins the results of one machine and has a ranking for each machine. Equal boards of a
    fleet share a ranking, and a table shows each of them. The page needs no other file and no
    network. The exit status is 3 if nothing may be shipped on a machine, because each file failed
    verify or misses a limit, and 4 if that is not decided.

    With --card, the command writes the README.md that a hub of models shows: metadata with the
    results, what the files take, verdicts, latencies, limits, and how to run them.

    \b
    Example: lenet-edge report demo/results.json --max-latency 50us
    Example: lenet-edge report demo/results.json --card --license apache-2.0
    """
    from lenet_edge.errors import DataError, UsageError
    from lenet_edge.extras import host_command
    from lenet_edge.flows.report import report
    from lenet_edge.report.eligibility import Limits
    from lenet_edge.report.page import checked_suffix
    from lenet_edge.report.terminal.blocks import advice_line

    if results == (DEFAULT_RESULTS,) and not DEFAULT_RESULTS.exists():
        raise DataError(
            f"there is no {DEFAULT_RESULTS}; name result files, or make it with:"
            f" {host_command('lenet-edge run')}"
        )
    chosen_file = page_file if is_given("page_file") else None
    if card and (base or history or (chosen_file and chosen_file.suffix != ".md")):
        raise UsageError("a card is an .md file without --compare and --history; leave these out")
    if not card and (models or license or force):
        raise UsageError("--models, --license and --force are for --card; add that option")
    limits = Limits(max_accuracy_drop, max_latency, max_bytes, batch_size, max_flash, max_ram)
    with spinner("Making the report"):  # takes minutes for a large fleet
        checked_suffix(page_file)
        page = report(results, limits, base, history, DEFAULT_DIR)
        if not card:
            page.save(page_file)
    if card:
        from lenet_edge.flows.card import write_card

        folders = [models] if models else [*(path.parent for path in results), DEFAULT_DIR]
        page_file = write_card(page, folders, chosen_file, license, force, say)
    from rich.console import Group
    from rich.text import Text

    lines = []
    for machine in page.machines:
        if len(page.machines) > 1:
            lines.append(Text(machine.name, style="dim"))
        lines.append(advice_line(machine.advice))
    facts = [machine.to_json() for machine in page.machines]
    output(Group(*lines), facts, json_file)
    say(f"The {'card' if card else 'report'} is in {page_file}.")
    exit_with(page.verdict)
