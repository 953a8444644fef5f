"""lenet-edge bench"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

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
from lenet_edge.cli._terminal import (
    measuring_alone,
    output,
    progress_bar,
    progress_begun,
    say,
    show,
)

if TYPE_CHECKING:
    from lenet_edge.bench.plan import Plan
    from lenet_edge.flows.fleet_session import Choice
    from lenet_edge.results.result_file import BenchRun, FleetRun, ParityReport, Skipped
    from lenet_edge.selection import Pair


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
    from lenet_edge.bench import plan
    from lenet_edge.bench.sampling import StopRule
    from lenet_edge.errors import TargetError
    from lenet_edge.flows.check import check
    from lenet_edge.report import csv_and_pytest
    from lenet_edge.report.latency import bench_view
    from lenet_edge.report.rank import SCENARIOS
    from lenet_edge.results.result_file import BenchRun, load_runs
    from lenet_edge.selection import load_files, select

    kept = json_file if str(json_file) != "-" else None
    if resume and kept is None:
        raise click.BadParameter("it needs the run's file: --json FILE", param_hint="--resume")
    if max_time < min_time:
        raise click.BadParameter("must not be below --min-time", param_hint="--max-time")
    if scenario:
        usual = SCENARIOS[scenario].batch_sizes
        asked = click.get_current_context().get_parameter_source("batch_sizes")
        if asked is not click.core.ParameterSource.COMMANDLINE:
            batch_sizes = usual
        elif scenario != "offline" and batch_sizes != usual:
            raise click.BadParameter(
                f"{scenario} means batches of {usual[0]}", param_hint="--batch-size"
            )
    if share and not scheduler:
        raise click.UsageError("--share is for a fleet; give its --scheduler")
    if scheduler and (pythons or csv_file or pytest_file):
        raise click.UsageError(
            "--python, --csv and --pytest-benchmark are for one machine, and --scheduler for many"
        )

    def make_plan(pairs: Sequence[Pair]) -> Plan:
        return plan.Plan(
            plan.expand(pairs, batch_sizes, num_threads),
            rounds=rounds,
            stop=StopRule(min_time, max_time, precision),
            timeout_s=timeout,
            pythons=pythons,
            scenario=scenario,
        )

    artifacts = load_files(files, DEFAULT_DIR, say)
    if scheduler:
        from lenet_edge.flows.fleet_session import Choice

        choice = Choice(artifacts, targets, delegate, delegate_options, allow_fallback)
        before = load_runs(kept) if resume and kept and kept.exists() else ()
        _on_fleet(scheduler, choice, make_plan, share, json_file, kept, before)
        return
    pairs, missing = select(artifacts, targets, delegate, delegate_options, allow_fallback)
    others, missing = plan.elsewhere(artifacts, missing, pythons)
    pairs += others
    say(f"Targets: {', '.join(sorted({pair.target.name for pair in pairs})) or 'none'}")
    planned = make_plan(pairs)
    click.get_current_context().with_resource(measuring_alone())
    earlier = BenchRun.load(kept) if resume and kept and kept.exists() else None
    with progress_bar("Check", len(pairs)) as step:
        planned, parity, failed = check(planned, step)
    run, stopped = _run(planned, [*missing, *failed], parity, earlier, kept)
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


def _run(
    planned: Plan,
    missing: list[Skipped],
    parity: Sequence[ParityReport],
    earlier: BenchRun | None,
    kept: Path | None,
) -> tuple[BenchRun, bool]:
    """Return what was found, and whether Ctrl-C stopped it before the end."""
    import dataclasses

    from lenet_edge.bench import plan
    from lenet_edge.results.result_file import BenchRun

    latest = earlier or BenchRun.here(skipped=tuple(missing), parity=tuple(parity))

    def keep(run: BenchRun) -> None:
        nonlocal latest
        latest = dataclasses.replace(run, parity=tuple(parity))
        if kept:
            latest.save(kept)

    try:
        with progress_bar("Bench", len(planned.steps())) as step:
            keep(plan.run(planned, step, keep, earlier, missing))
    except KeyboardInterrupt:
        return latest, True
    return latest, False


def _on_fleet(
    scheduler: str,
    choice: Choice,
    make_plan: Callable[[Sequence[Pair]], Plan],
    share: bool,
    json_file: Path | None,
    kept: Path | None,
    earlier: Sequence[BenchRun],
) -> None:
    """Measure on every board, and show what is known however it ends."""
    from lenet_edge.errors import TargetError
    from lenet_edge.fleet.connection import connect
    from lenet_edge.flows import fleet
    from lenet_edge.report.equal_boards import fleet_view

    latest: FleetRun | None = None

    def keep(found: FleetRun) -> None:
        nonlocal latest
        latest = found
        if kept:
            found.save(kept)

    stopped = False
    with connect(scheduler) as client, progress_begun("Bench") as begin:
        try:
            fleet.bench(client, choice, make_plan, share, begin, keep, earlier)
        except KeyboardInterrupt:
            stopped = True
    if latest is not None and kept:  # the file is written, and a large one takes its time
        show(fleet_view(latest))
    elif latest is not None:
        output(fleet_view(latest), latest.to_json(), json_file)
    if stopped:
        more = "; go on with the same command and --resume" if kept else ""
        raise KeyboardInterrupt(f"Stopped{more}")
    if latest is None or not any(run.measurements for run in latest.runs):
        raise TargetError("nothing could be measured; the reasons are above")
