"""Read results and recommend a file, or write the report of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

from lenet_edge.errors import UsageError
from lenet_edge.flows.history import read_history
from lenet_edge.report import page
from lenet_edge.report.eligibility import Limits
from lenet_edge.report.join_runs import join_by_machine
from lenet_edge.report.machine_report import with_history, with_training
from lenet_edge.report.page import Report
from lenet_edge.report.recommend import NothingFits, Recommendation
from lenet_edge.report.recommend import recommend as recommend_file
from lenet_edge.report.training_section import read_training
from lenet_edge.results.result_file import BenchRun, FleetRun, load_runs

Results = Path | BenchRun | FleetRun


def named_runs(results: Iterable[Results]) -> list[tuple[str, BenchRun]]:
    """Return every run of some results, each with the name of its source.

    Args:
        results: result files, and runs in memory.

    Raises:
        DataError: a file cannot be read.
    """
    runs: list[tuple[str, BenchRun]] = []
    for result in results:
        if isinstance(result, Path):
            runs += [(result.name, run) for run in load_runs(result)]
        elif isinstance(result, FleetRun):
            runs += [("this session", run) for run in result.runs]
        else:
            runs.append(("this session", result))
    return runs


def report(
    results: Sequence[Results],
    limits: Limits,
    base: Path | BenchRun | None = None,
    history: Path | None = None,
    exported: Path | None = None,
) -> Report:
    """Build the report of some results; the results of one machine are joined.

    Args:
        results: result files, and runs in memory.
        limits: the limits for the recommended file.
        base: an earlier run of one machine, to show the changes since.
        history: a folder of result files, to show the figures over commits.
        exported: a folder where the measured files may be, besides those of the result files.

    Raises:
        DataError: a file cannot be read, or nothing was measured at the batch size of `limits`.
    """
    runs = named_runs(results)
    earlier = None
    if isinstance(base, Path):
        earlier = (base.name, BenchRun.load(base))
    elif base is not None:
        earlier = ("this session", base)
    # The history comes first: a page of a large fleet takes minutes, and the folder may be wrong.
    series = [] if history is None else read_history(history, lambda line: None)
    built = page.build(runs, limits, earlier)
    folders = [result.parent for result in results if isinstance(result, Path)]
    return with_folders(
        dataclasses.replace(
            built, machines=tuple(with_history(machine, series) for machine in built.machines)
        ),
        [*folders, *([exported] if exported else [])],
    )


def with_folders(report: Report, folders: Iterable[Path]) -> Report:
    """Return the report with what is in the folders of its files.

    These are the training of each machine's reference, and the files that the next commands name.
    """
    folders = tuple(dict.fromkeys(folders))
    references = {name for each in report.machines for name in each.references}
    curves = [
        curve
        for folder in folders
        for reference in sorted(references)
        if (curve := read_training(folder, reference))
    ]
    machines = tuple(
        dataclasses.replace(with_training(machine, curves), folders=folders)
        for machine in report.machines
    )
    return dataclasses.replace(report, machines=machines)


def recommend(results: Sequence[Results], limits: Limits) -> Recommendation | NothingFits:
    """Recommend a file for one machine.

    Args:
        results: result files, and runs in memory, of one machine.
        limits: the limits for the file.

    Raises:
        UsageError: the results are of several machines, or there are none.
        DataError: a file cannot be read, or nothing was measured at the batch size of `limits`.
    """
    machines = join_by_machine(run for _, run in named_runs(results))
    if len(machines) != 1:
        raise UsageError(
            f"a recommendation is for one machine and the results are of {len(machines)};"
            " a report ranks each"
        )
    return recommend_file(machines[0], limits)
