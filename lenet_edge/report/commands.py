"""Commands of the report: those that measured a chapter, and the next one to run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterable
from pathlib import Path

from lenet_edge.formats import format_of
from lenet_edge.report.rank import places
from lenet_edge.report.recommend import NothingFits, Recommendation
from lenet_edge.results.result_file import BenchRun

# The subcommands that write the results of a chapter. The other chapters are made by `report`.
_SOURCES = {
    "parity": ("verify", "run"),
    "confusion": ("verify", "run"),
    "latencies": ("bench", "run"),
    "accuracy": ("bench", "verify", "run"),
    "spread": ("bench", "run"),
    "scaling": ("bench", "run"),
    "energy": ("bench", "run"),
    "counts": ("bench", "verify", "run"),
    "fits": ("bench", "verify", "run"),
    "boards": ("bench", "verify"),
    "skipped": ("bench", "verify", "run"),
    "training": ("train", "run"),
}


def commands_of(run: BenchRun, anchor: str) -> list[str]:
    """Return the recorded commands that wrote the results of a chapter."""
    sources = ("bench",) if anchor.startswith("layers") else _SOURCES.get(anchor, ())
    commands = _commands_with(run, sources)
    if anchor == "parity" and not commands:  # bench checks the files on a few images
        return _commands_with(run, ("bench",))
    return commands


def _commands_with(run: BenchRun, subcommands: Collection[str]) -> list[str]:
    return [command for command in run.commands if _subcommand(command) in subcommands]


def next_command(
    run: BenchRun, advice: Recommendation | NothingFits, anchor: str, folders: Iterable[Path] = ()
) -> str | None:
    """Return the command that answers the next question about a chapter; None without any.

    Args:
        run: the results.
        advice: the recommendation.
        anchor: the name of the chapter.
        folders: where the measured files may be. Results have only their names.
    """

    def path(name: str) -> str:
        if Path(name).name != name:
            return name
        paths = (folder / name for folder in folders)
        # Path.is_file raises an error if the name is too long or the folder is not readable.
        return str(next(filter(os.path.isfile, paths), name))

    failed = [report for report in run.parity if report.verdict != "pass"]
    chosen = advice.measurement if isinstance(advice, Recommendation) else None
    if anchor == "advice" and chosen:
        file_format = format_of(Path(chosen.artifact))
        if file_format and file_format.role == "browser":
            return _quoted("serve", path(chosen.artifact))
        runtime = ["--runtime", "native"] if file_format and file_format.role == "program" else []
        return _quoted("deploy", "pi@raspberrypi.local", path(chosen.artifact), *runtime)
    if anchor == "parity" and failed:
        report = failed[0]
        return _quoted("verify", path(report.candidate), "--target", report.target, "--layers")
    if anchor == "confusion" and chosen:
        file = path(chosen.artifact)
        return _quoted("verify", file, "--target", chosen.target, "--plots", "plots")
    if anchor == "latencies" and any(place.unseparated for place in places(run)):
        return "lenet-edge bench --precision 0.5 --json bench.json"
    if anchor == "latencies" and chosen and not run.layer_times:
        file = path(chosen.artifact)
        return _quoted(
            "bench", file, "--target", chosen.target, "--layers", "--json", "layers.json"
        )
    if anchor.startswith("layers"):
        times = run.layer_times[int(anchor.removeprefix("layers")) - 1]
        return _quoted("inspect", path(times.artifact))
    if anchor in ("counts", "fits") and (
        c_files := [count.artifact for count in run.instruction_counts
                    if Path(count.artifact).suffix == ".c"]
    ):  # fmt: skip
        return _quoted("inspect", path(c_files[0]), "--board", "pico")
    if anchor == "skipped" and run.skipped:
        return "lenet-edge doctor"
    return None


def _subcommand(command: str) -> str | None:
    """Return the name of the subcommand of a recorded command line; None of any other line.

    Result files may come from others, and readers copy the commands into a shell.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    if words[:1] != ["lenet-edge"] or shlex.join(words) != command or not command.isprintable():
        return None
    return next((word for word in words[1:] if not word.startswith("-")), None)


def _quoted(*words: str) -> str:
    return shlex.join(("lenet-edge", *words))
