"""The command ``lenet-edge bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lenet_edge.cli._console import TERMINAL
from lenet_edge.cli._help import (
    FLEET,
    INPUT,
    MEASURING,
    OUTPUT,
    TARGETS,
    Command,
    Section,
    StringChoice,
    check_choice,
    option,
)
from lenet_edge.cli._options import (
    DEFAULT_DIR,
    batch_size_option,
    delegate_options,
    files_argument,
    input_options,
    is_given,
    json_option,
    percent,
    scheduler_option,
    target_option,
    thread_counts,
)
from lenet_edge.cli._outputs import OutputFile, OutputFolder, PathOrName, is_dash
from lenet_edge.cli._terminal import output, say, show, stop_if_left_out

if TYPE_CHECKING:
    from lenet_edge.artifacts.stated_input import StatedInput
    from lenet_edge.flows.bench import BenchSettings
    from lenet_edge.flows.fleet_session import Choice


def _pythons(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> Any:
    pythons = {}
    for value in values:
        target, _, path = value.rpartition("=")
        if not Path(path).is_file():
            raise click.BadParameter(
                f"{path} is not a Python interpreter; give the path of a venv's bin/python"
            )
        pythons[target] = Path(path).absolute()
    return pythons


def _cpus(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    names = tuple(value.split(",")) if value else ()
    if names:
        from lenet_edge.flows.counts import CPUS

        for name in names:
            check_choice(name, CPUS)
    return names


@click.command("bench", cls=Command, section=Section.MEASURE, position=2)
@files_argument
@target_option
@option(
    TARGETS, "pythons", "--python", multiple=True, type=PathOrName(), callback=_pythons,
    metavar="[TARGET=]PATH",
    help="Run the workers (of this target or runtime) with the Python of another venv. Repeatable.",
)  # fmt: skip
@delegate_options
@scheduler_option
@option(FLEET, "--share", is_flag=True,
        help="With --scheduler: divide the cells among equal boards.")  # fmt: skip
@batch_size_option
@option(MEASURING, "--num-threads", callback=thread_counts, metavar="N,N...", default="1",
        show_default=True, help="Measure each of these numbers of threads.")  # fmt: skip
@option(
    MEASURING, "--scenario", type=StringChoice(["single-stream", "offline", "multi-stream"]),
    help="Use a scenario of MLPerf: single-stream is the p90 of single images, offline the"
    " throughput, multi-stream the p99 of batches of 8.",
)  # fmt: skip
@option(
    MEASURING, "--precision", callback=percent, default="1%", show_default=True, metavar="P%",
    help="Stop when the half-width of the median's 95% interval is below this percentage: in a"
    " process, and five times as wide between processes.",
)  # fmt: skip
@option(MEASURING, "--min-time", type=click.FloatRange(0), default=0.3, show_default=True,
        metavar="S", help="Sample each cell for at least this many seconds.")  # fmt: skip
@option(MEASURING, "--max-time", type=click.FloatRange(0, min_open=True), default=5.0,
        show_default=True, metavar="S",
        help="Sample each cell for at most this many seconds.")  # fmt: skip
@option(MEASURING, "--rounds", type=click.IntRange(1, 100), default=3, show_default=True,
        metavar="N", help="Number of processes that share the time of a cell. From 2 on, unclear"
        " cells get more.")  # fmt: skip
@option(MEASURING, "--timeout", type=click.FloatRange(0, min_open=True), default=300.0,
        metavar="S", show_default=True,
        help="Stop a process that takes longer than this many seconds.")  # fmt: skip
@option(MEASURING, "--layers", is_flag=True,
        help="Also show where the time goes: the time of each layer.")  # fmt: skip
@option(
    MEASURING, "--count", callback=_cpus, metavar="CPU,CPU...",
    help="Count the instructions of C files on x86-64, arm64, arm64-dotprod or cortex-m0, -m3, -m4,"
    " -m7, -m33, -m55, in an emulator. Without --target, measure no latency."
    " --target cortex-m4 counts too. --target serial:PORT counts cycles on a board.",
)  # fmt: skip
@input_options
@option(
    INPUT, "inputs", "--inputs", type=click.Path(path_type=Path), metavar="FILE.npz",
    help="Feed the arrays of FILE, one named like each input. Default: test images, or random"
    " values.",
)  # fmt: skip
@json_option
@option(OUTPUT, "--resume", is_flag=True,
        help="Continue the run in the file of --json.")  # fmt: skip
@option(OUTPUT, "--csv", "csv_file", type=OutputFile(".csv"),
        metavar="FILE", help="Also write one row for each cell to FILE.")  # fmt: skip
@option(OUTPUT, "--pytest-benchmark", "pytest_file",
        type=OutputFile(".json"), metavar="FILE",
        help="Also write a file for pytest-benchmark compare.")  # fmt: skip
@option(OUTPUT, "--layers-csv", type=OutputFile(".csv"), metavar="FILE",
        help="Also write one row for each layer to FILE; implies --layers.")  # fmt: skip
@option(
    OUTPUT, "--node-data", type=OutputFolder("*-layers.json"), metavar="DIR",
    help="Also write the times of the layers as node data for Model Explorer to DIR; implies"
    " --layers.",
)  # fmt: skip
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
    layers: bool,
    count: tuple[str, ...],
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
    layers_csv: Path | None,
    node_data: Path | None,
    inputs: Path | None,
    stated: StatedInput,
) -> None:
    """Measure the latency of each file at each batch size.

    FILES are models, exported ones or any .tflite, .onnx and .keras file; the default is every file
    in ./exported. First, bench checks each exported file on 256 test images; files with wrong
    predictions get no rank. Each figure comes from several fresh processes, in rounds over all
    cells, so that drift affects all cells alike. The latency is that of the inference alone. The
    times for quantizing the input and for reading the output are in the JSON. With --json FILE,
    bench saves each finished process at once, and --resume continues from there. The exit status
    is 1 if no target here runs one of FILES.

    \b
    Example: lenet-edge bench --target tflite --batch-size 1,8,32
    Example: lenet-edge bench --scheduler tls://127.0.0.1:8786 --json fleet.json
    """
    from lenet_edge.errors import UsageError
    from lenet_edge.flows.bench import BenchSettings, bench, find_unmeasured
    from lenet_edge.flows.fleet_session import Choice
    from lenet_edge.report import csv_and_pytest
    from lenet_edge.report.layer_files import write_layer_files
    from lenet_edge.report.terminal.bench import bench_view
    from lenet_edge.selection import load_artifacts
    from lenet_edge.support.files import is_stream

    # The file is rewritten after each process, and a stream is written once.
    run_file = json_file if json_file and not (is_dash(json_file) or is_stream(json_file)) else None
    if resume and run_file is None:
        raise UsageError("--resume needs the run's file: --json FILE")
    settings = BenchSettings(
        batch_sizes if is_given("batch_sizes") else None,
        num_threads,
        scenario,
        precision,
        min_time,
        max_time,
        rounds,
        timeout,
        pythons,
        inputs,
        bool(layers or layers_csv or node_data),
        count,
    )
    if share and not scheduler:
        raise UsageError("--share needs --scheduler, the address of a fleet")
    only_here = pythons or csv_file or pytest_file or inputs or settings.layers or count
    if scheduler and only_here:
        raise UsageError(
            "--python, --inputs, --layers, --count, --csv and --pytest-benchmark are for one"
            " machine; leave out --scheduler"
        )
    artifacts = load_artifacts(files, DEFAULT_DIR, say, stated)
    choice = Choice(artifacts, targets, delegate, delegate_options, allow_fallback)
    if scheduler:
        _on_fleet(scheduler, choice, settings, share, json_file, run_file, resume)
        return
    run, stopped = bench(choice, settings, TERMINAL, run_file, resume)
    if csv_file:
        csv_and_pytest.write_text(csv_file, csv_and_pytest.to_csv(run))
    if pytest_file:
        csv_and_pytest.write_text(pytest_file, csv_and_pytest.to_pytest_benchmark(run))
    write_layer_files(run, layers_csv, node_data)
    output(bench_view(run), run.to_json(), json_file)
    if stopped:
        hint = "; go on with the same command and --resume" if run_file else ""
        raise KeyboardInterrupt(f"Stopped with {run.remaining} processes left to run{hint}")
    stop_if_left_out(find_unmeasured(run, choice, all_files=bool(files)))


def _on_fleet(
    scheduler: str,
    choice: Choice,
    settings: BenchSettings,
    share: bool,
    json_file: Path | None,
    run_file: Path | None,
    resume: bool,
) -> None:
    """Measure on every board, and show the results even if the measurement was stopped."""
    from lenet_edge.errors import TargetError
    from lenet_edge.flows.bench import bench_fleet
    from lenet_edge.report.terminal.fleet import fleet_view

    fleet, stopped = bench_fleet(scheduler, choice, settings, TERMINAL, share, run_file, resume)
    if fleet is not None and run_file:  # `bench_fleet` has written it, which takes long if large
        show(fleet_view(fleet))
    elif fleet is not None:
        output(fleet_view(fleet), fleet.to_json(), json_file)
    if stopped:
        hint = "; go on with the same command and --resume" if run_file else ""
        raise KeyboardInterrupt(f"Stopped{hint}")
    if fleet is None or not any(run.measurements for run in fleet.runs):
        raise TargetError("nothing could be measured; the reasons are above")
