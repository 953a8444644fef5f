"""lenet-edge bench"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lenet_edge.cli._console import TERMINAL
from lenet_edge.cli._options import (
    DEFAULT_DIR,
    batch_size_option,
    delegate_options,
    files_argument,
    json_option,
    percent,
    scheduler_option,
    target_option,
)
from lenet_edge.cli._terminal import output, say, show

if TYPE_CHECKING:
    from lenet_edge.flows.bench import BenchSettings
    from lenet_edge.flows.fleet_session import Choice


def _threads(ctx: click.Context, option: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        threads = tuple(sorted({int(one) for one in value.split(",")}))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 1,4") from None
    if threads[0] < 1 or threads[-1] > 256:
        raise click.BadParameter(f"{value!r}: 1 to 256 threads")
    return threads


def _pythons(ctx: click.Context, option: click.Parameter, value: tuple[str, ...]) -> Any:
    found = {}
    for one in value:
        name, _, path = one.rpartition("=")
        if not Path(path).is_file():
            raise click.BadParameter(f"{path} is no Python; give the path of a venv's bin/python")
        found[name] = Path(path).absolute()
    return found


@click.command("bench")
@files_argument
@target_option
@batch_size_option
@click.option(
    "--num-threads",
    callback=_threads,
    metavar="N,N...",
    default="1",
    show_default=True,
    help="Threads for one inference; a list is measured one by one.",
)
@click.option(
    "--scenario",
    type=click.Choice(["single-stream", "offline", "multi-stream"]),
    help="As MLPerf has them: p90 of single images, throughput, or p99 of 8 at a time.",
)
@click.option(
    "--precision", callback=percent, default="1%", show_default=True, metavar="P%",
    help="Stop when the median's 95 % interval is within this, half-width.",
)  # fmt: skip
@click.option("--min-time", type=click.FloatRange(0), default=0.3, show_default=True,
              metavar="S", help="Sample each cell this long at the least.")  # fmt: skip
@click.option("--max-time", type=click.FloatRange(0, min_open=True), default=5.0,
              show_default=True, metavar="S", help="And this long at the most.")  # fmt: skip
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True,
              help="Processes that share a cell's time and pool their samples.")  # fmt: skip
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=300.0, metavar="S",
              show_default=True, help="A process that takes longer is killed.")  # fmt: skip
@click.option(
    "pythons", "--python", multiple=True, callback=_pythons, metavar="[TARGET=]PATH",
    help="Run the workers (of a target or runtime) with another venv's Python. Repeatable.",
)  # fmt: skip
@delegate_options
@scheduler_option
@click.option("--share", is_flag=True,
              help="With --scheduler: equal boards divide the cells among them.")  # fmt: skip
@json_option
@click.option("--resume", is_flag=True, help="Go on with the run that --json FILE holds.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path, dir_okay=False),
              metavar="FILE", help="Write a row for each cell too.")  # fmt: skip
@click.option("--pytest-benchmark", "pytest_file", type=click.Path(path_type=Path, dir_okay=False),
              metavar="FILE", help="Write what `pytest-benchmark compare` reads too.")  # fmt: skip
def command(
    files: tuple[Path, ...],
    targets: tuple[str, ...],
    batch_sizes: tuple[int, ...],
    num_threads: tuple[int, ...],
    scenario: str | None,
    precision: float,
    min_time: float,
    max_time: float,
    rounds: int,
    timeout: float,
    pythons: dict[str, Path],
    delegate: str | None,
    delegate_options: tuple[tuple[str, str], ...],
    allow_fallback: bool,
    scheduler: str | None,
    share: bool,
    json_file: Path | None,
    resume: bool,
    csv_file: Path | None,
    pytest_file: Path | None,
) -> None:
    """Measure the latency of each file, batch by batch.

    FILES are exported models; every one in ./exported if left out. Each is checked first, on 256
    test images: what answers wrong gets no rank. Each figure comes from several fresh processes,
    in rounds, so that what drifts hits all alike. What is timed is inference alone; quantizing
    the input and reading the output are measured apart (see --json). With --json FILE each
    finished process is kept at once, and --resume goes on from there.

    \b
    Example: lenet-edge bench --target tflite --batch-size 1,8,32
    Example: lenet-edge bench --scheduler tcp://127.0.0.1:8786 --json fleet.json
    """
    from lenet_edge.errors import TargetError, UsageError
    from lenet_edge.flows.bench import BenchSettings, bench
    from lenet_edge.flows.fleet_session import Choice
    from lenet_edge.report import csv_and_pytest
    from lenet_edge.report.latency import bench_view
    from lenet_edge.selection import load_files

    kept = json_file if str(json_file) != "-" else None
    if resume and kept is None:
        raise UsageError("--resume needs the run's file: --json FILE")
    source = click.get_current_context().get_parameter_source("batch_sizes")
    settings = BenchSettings(
        batch_sizes if source is click.core.ParameterSource.COMMANDLINE else None,
        num_threads,
        scenario,
        precision,
        min_time,
        max_time,
        rounds,
        timeout,
        pythons,
    )
    if share and not scheduler:
        raise UsageError("--share is for a fleet; give its --scheduler")
    if scheduler and (pythons or csv_file or pytest_file):
        raise UsageError(
            "--python, --csv and --pytest-benchmark are for one machine, and --scheduler for many"
        )
    artifacts = load_files(files, DEFAULT_DIR, say)
    choice = Choice(artifacts, targets, delegate, delegate_options, allow_fallback)
    if scheduler:
        _on_fleet(scheduler, choice, settings, share, json_file, kept, resume)
        return
    run, stopped = bench(choice, settings, TERMINAL, kept, resume)
    if csv_file:
        csv_and_pytest.write(csv_file, csv_and_pytest.as_csv(run))
    if pytest_file:
        csv_and_pytest.write(pytest_file, csv_and_pytest.as_pytest_benchmark(run))
    output(bench_view(run), run.to_json(), json_file)
    if stopped:
        more = "; go on with the same command and --resume" if kept else ""
        raise KeyboardInterrupt(f"Stopped with {run.remaining} processes left to run{more}")
    if not run.measurements:
        raise TargetError("nothing could be measured; the reasons are above")


def _on_fleet(
    scheduler: str,
    choice: Choice,
    settings: BenchSettings,
    share: bool,
    json_file: Path | None,
    kept: Path | None,
    resume: bool,
) -> None:
    """Measure on every board, and show what is known however it ends."""
    from lenet_edge.errors import TargetError
    from lenet_edge.flows.bench import bench_fleet
    from lenet_edge.report.equal_boards import fleet_view

    fleet, stopped = bench_fleet(scheduler, choice, settings, TERMINAL, share, kept, resume)
    if fleet is not None and kept:  # the file is written, and a large one takes its time
        show(fleet_view(fleet))
    elif fleet is not None:
        output(fleet_view(fleet), fleet.to_json(), json_file)
    if stopped:
        more = "; go on with the same command and --resume" if kept else ""
        raise KeyboardInterrupt(f"Stopped{more}")
    if fleet is None or not any(run.measurements for run in fleet.runs):
        raise TargetError("nothing could be measured; the reasons are above")
