"""Benchmark files on this machine, or on every board of a fleet."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_edge.bench import plan
from lenet_edge.bench.plan import Plan
from lenet_edge.bench.run_plan import run_plan
from lenet_edge.bench.sampling import StopRule
from lenet_edge.errors import UsageError
from lenet_edge.flows.check import check
from lenet_edge.flows.console import Console, late_bar
from lenet_edge.flows.counts import count_cycles_of_files, count_files
from lenet_edge.flows.layers import layer_cells, with_layer_times
from lenet_edge.microcontrollers.cores import CORES
from lenet_edge.report.rank import SCENARIOS
from lenet_edge.results.result_file import BenchRun, FleetRun, ParityReport, Skipped, load_runs
from lenet_edge.selection import Pair, find_unused, select_pairs
from lenet_edge.support.files import is_stream

if TYPE_CHECKING:
    from lenet_edge.flows.fleet_session import Choice


@dataclass(frozen=True)
class BenchSettings:
    """The settings of a benchmark, as the options of `lenet-edge bench` name them.

    `batch_sizes` None means the batch sizes of `scenario`, or 1, 8, 32 and 128 without one. Without
    both, a file with a fixed batch is measured at that batch.
    `precision` is a fraction of the median. `pythons` are interpreters of other environments by
    the name of a target or runtime; "" stands for all others. `inputs` is an .npz file with an
    array for each input of the models. `layers` also measures the layers of each pair. `count` are
    processors to count instructions on, see `flows.counts`.

    Raises:
        UsageError: two settings contradict each other.
    """

    batch_sizes: tuple[int, ...] | None = None
    num_threads: tuple[int, ...] = (1,)
    scenario: str | None = None
    precision: float = 0.01
    min_time_s: float = 0.3
    max_time_s: float = 5.0
    rounds: int = 3
    timeout_s: float = 300.0
    pythons: Mapping[str, Path] = field(default_factory=dict)
    inputs: Path | None = None
    layers: bool = False
    count: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_time_s < self.min_time_s:
            raise UsageError("--max-time must not be below --min-time")
        if self.scenario is None or self.scenario == "offline" or self.batch_sizes is None:
            return
        usual = SCENARIOS[self.scenario].batch_sizes
        if self.batch_sizes != usual:
            raise UsageError(
                f"{self.scenario} means batches of {usual[0]}; give --batch-size {usual[0]}"
            )

    def plan(self, pairs: Sequence[Pair]) -> Plan:
        """Return the plan that measures these pairs."""
        usual = SCENARIOS[self.scenario].batch_sizes if self.scenario else plan.DEFAULT_BATCH_SIZES
        return Plan(
            plan.expand(
                pairs,
                self.batch_sizes or usual,
                self.num_threads,
                own_batch=self.batch_sizes is None and self.scenario is None,
            ),
            rounds=self.rounds,
            stop=StopRule(self.min_time_s, self.max_time_s, self.precision),
            timeout_s=self.timeout_s,
            pythons=self.pythons,
            scenario=self.scenario,
            inputs=self.inputs,
            quantile=SCENARIOS[self.scenario].quantile if self.scenario else 0.5,
        )


def bench(
    choice: Choice,
    settings: BenchSettings,
    console: Console,
    results_file: Path | None = None,
    resume: bool = False,
) -> tuple[BenchRun, bool]:
    """Check each file on the first test images, then measure its latency on this machine.

    Count instructions first, if the settings name processors or the choice names cores of
    microcontrollers; and cycles, if the choice names the serial ports of boards. If so and the
    choice names no other target, measure no latency.

    Args:
        choice: the files and targets.
        settings: the settings of the plan.
        console: the display.
        results_file: a JSON file that is rewritten after each process, or a stream that is
            written at the end; None keeps nothing.
        resume: continue the run that `results_file` holds.

    Returns:
        The run, and True if Ctrl-C stopped it before its end.

    Raises:
        LenetEdgeError: no file fits the targets, or the run to resume has another plan.
    """
    # A core that an emulator executes has no latency. Its instructions are counted instead.
    names = [*CORES] if "cortex-m" in choice.targets else []
    names += [name for name in choice.targets if name in CORES]
    if names:
        targets = tuple(name for name in choice.targets if name not in (*CORES, "cortex-m"))
        choice = dataclasses.replace(choice, targets=targets)
        settings = dataclasses.replace(settings, count=(*settings.count, *names))
    ports = [name for name in choice.targets if name.startswith("serial:")]
    if not settings.count and not ports:
        run, stopped = _bench_latencies(choice, settings, console, results_file, resume)
        if results_file and is_stream(results_file):
            run.save(results_file)
        return run, stopped
    cycles, unread = count_cycles_of_files(choice.artifacts, ports, console)
    targets = tuple(name for name in choice.targets if name not in ports)
    choice = dataclasses.replace(choice, targets=targets)
    counts, uncounted = count_files(choice.artifacts, settings.count, settings.inputs, console)
    if choice.targets:
        run, stopped = _bench_latencies(choice, settings, console, results_file, resume)
    else:
        run, stopped = BenchRun.of_this_machine().with_revision_of(_folder_of(choice)), False
    skipped = (*run.skipped, *uncounted, *unread)
    run = dataclasses.replace(run, instruction_counts=counts, cycle_counts=cycles, skipped=skipped)
    if results_file:
        run.save(results_file)
    return run, stopped


def _folder_of(choice: Choice) -> Path:
    """Return the folder of the first file, whose repository has the commit of the run."""
    return choice.artifacts[0].path.parent if choice.artifacts else Path()


def _bench_latencies(
    choice: Choice,
    settings: BenchSettings,
    console: Console,
    results_file: Path | None,
    resume: bool,
) -> tuple[BenchRun, bool]:
    """Check and measure the files; rewrite a results file on the way, but write no stream."""
    pairs, missing = select_pairs(
        choice.artifacts, choice.targets, choice.delegate, choice.options, choice.allow_fallback
    )
    others, missing = plan.pairs_for_pythons(choice.artifacts, missing, settings.pythons)
    pairs, unfit = plan.split_by_inputs([*pairs, *others], settings.inputs)
    console.note(f"Targets: {', '.join(sorted({pair.target.name for pair in pairs})) or 'none'}")
    planned = settings.plan(pairs)
    refused = plan.refused_batches(pairs, planned.cells)
    for line in plan.fixed_batches(planned.cells):
        console.note(line)
    with console.measuring_alone():
        earlier = None
        if resume and results_file and results_file.exists():
            earlier = BenchRun.load(results_file)
        with console.progress_bar("Check", len(pairs)) as step:
            planned, parity, failed = check(planned, step)
        skipped = [*missing, *unfit, *refused, *failed]
        run, stopped = _measure(
            planned, skipped, parity, earlier, console, results_file, _folder_of(choice)
        )
        if settings.layers and not stopped:
            with console.progress_bar("Layers", len(layer_cells(planned))) as step:
                run, stopped = with_layer_times(run, planned, step)
            if results_file and not is_stream(results_file):
                run.save(results_file)
        return run, stopped


def _measure(
    planned: Plan,
    skipped: Sequence[Skipped],
    parity: Sequence[ParityReport],
    earlier: BenchRun | None,
    console: Console,
    results_file: Path | None,
    folder: Path,
) -> tuple[BenchRun, bool]:
    is_rewritten = results_file is not None and not is_stream(results_file)
    latest = earlier or BenchRun.of_this_machine(skipped=tuple(skipped), parity=tuple(parity))

    def keep(run: BenchRun) -> None:
        nonlocal latest
        run = dataclasses.replace(run, parity=tuple(parity))
        latest = run.with_revision_of(folder)
        if results_file and is_rewritten:
            latest.save(results_file)

    try:
        with console.progress_bar("Bench", len(planned.steps())) as step:
            keep(run_plan(planned, step, keep, earlier, skipped, step.extend))
        stopped = False
    except KeyboardInterrupt:
        stopped = True
    return latest, stopped


def find_unmeasured(run: BenchRun, choice: Choice, all_files: bool) -> dict[str, str]:
    """Return what was not measured on this machine, and why; see `selection.find_unused`.

    A file that a processor counted, or a board, was measured.
    """
    ran = {(cell.artifact_sha256, cell.target) for cell in run.measurements}
    ran |= {(count.artifact_sha256, count.target) for count in run.instruction_counts}
    ran |= {(count.artifact_sha256, count.target) for count in run.cycle_counts}
    return find_unused(choice.artifacts, ran, run.skipped, choice.names, all_files)


def bench_fleet(
    scheduler: str,
    choice: Choice,
    settings: BenchSettings,
    console: Console,
    share: bool = False,
    results_file: Path | None = None,
    resume: bool = False,
) -> tuple[FleetRun | None, bool]:
    """Check and measure each file on every board of a fleet.

    Args:
        scheduler: the address of the Dask scheduler.
        choice: the files and targets.
        settings: the settings of each board's plan; `pythons` and `inputs` do not apply.
        console: the display.
        share: equal boards divide the cells among themselves.
        results_file: a JSON file that is rewritten now and then; None keeps nothing.
        resume: continue the run that `results_file` holds.

    Returns:
        The runs of all boards, None if Ctrl-C came before the first; and True if Ctrl-C stopped
        the benchmark before its end.

    Raises:
        LenetEdgeError: the fleet has no board that can take the files.
    """
    from lenet_edge.fleet.connection import connect
    from lenet_edge.flows import fleet
    from lenet_edge.flows.fleet_session import open_fleet

    earlier: Sequence[BenchRun] = ()
    if resume and results_file and results_file.exists():
        earlier = load_runs(results_file)
    latest: FleetRun | None = None

    def keep(known: FleetRun) -> None:
        nonlocal latest
        latest = known
        if results_file:
            known.save(results_file)

    with connect(scheduler) as client, late_bar(console, "Bench") as begin:
        try:
            session = open_fleet(client, choice)
            fleet.bench(session, settings.plan, share, begin, keep, earlier)
        except KeyboardInterrupt:
            return latest, True
    return latest, False
