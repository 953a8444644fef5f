"""Execution of a plan: one worker process for each cell and round.

`BenchProgress.measure` is a job. `run_plan` runs it on this machine, `flows.fleet` on boards.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

from lenet_edge import worker
from lenet_edge.bench import limit, timing
from lenet_edge.bench.extra_rounds import cells_of_extra_round
from lenet_edge.bench.plan import Cell, CellKey, Plan
from lenet_edge.errors import DataError, LenetEdgeError
from lenet_edge.machine.environment import Environment, read_environment
from lenet_edge.results.formatting import latency
from lenet_edge.results.result_file import BenchRun, Measurement, Skipped, check_measurement
from lenet_edge.support.typed_json import check_types
from lenet_edge.worker import Call, Job


def run_plan(
    plan: Plan,
    report: Callable[[str], None] = lambda line: None,
    keep: Callable[[BenchRun], None] = lambda run: None,
    earlier: BenchRun | None = None,
    skipped: Sequence[Skipped] = (),
    extend: Callable[[int], None] = lambda count: None,
) -> BenchRun:
    """Measure the cells of a plan on this machine; a cell that fails affects no other cell.

    Args:
        plan: the plan.
        report: called with a line of text after each process.
        keep: called with the results so far after each process.
        earlier: the results of an interrupted run of the same plan, to be continued.
        skipped: pairs that are known not to run.
        extend: called with the number of processes that a round beyond the plan adds.

    Returns:
        The measurements, sorted by artifact, target, batch size and threads; and the failures.

    Raises:
        DataError: `earlier` is from another machine or another plan.
    """
    progress = BenchProgress(plan, read_environment(), skipped)
    if earlier is not None:
        progress.resume(earlier)
    worker.run_locally(
        progress.measure(plan.cells, report, lambda: keep(progress.to_run()), extend)
    )
    return progress.to_run()


class BenchProgress:
    """The measurements and failures of a plan so far, on one machine.

    Args:
        plan: the plan.
        environment: the machine's facts.
        skipped: pairs that are known not to run.
        macs: multiply-accumulates by sha256; by default they are counted now.
    """

    def __init__(
        self,
        plan: Plan,
        environment: Environment,
        skipped: Iterable[Skipped] = (),
        macs: dict[str, int] | None = None,
    ) -> None:
        if macs is None:
            macs = limit.count_macs(cell.pair.artifact for cell in plan.cells)
        self._plan, self._environment, self._macs = plan, environment, macs
        self._skipped = list(skipped)
        self._measured: dict[CellKey, Measurement] = {}
        self._failed: set[CellKey] = set()
        self._peaks: dict[int, float] = {}
        self._remaining = 0

    def resume(self, earlier: BenchRun) -> None:
        """Continue an interrupted run of the same plan on this machine.

        Cells that failed in it are measured again: the cause may have been a lack of memory.

        Raises:
            DataError: the run is from another machine or another plan.
        """
        if earlier.environment.identity != self._environment.identity:
            raise DataError(
                f"the file to resume is from another machine ({earlier.environment.machine},"
                f" {earlier.environment.cores} cores); start anew without --resume"
            )
        digests = {cell.key: cell.pair.artifact.sha256 for cell in self._plan.cells}
        same_files = all(
            digests.get(measurement.key) == measurement.artifact_sha256
            for measurement in earlier.measurements
        )
        if earlier.settings != self._plan.settings or not same_files:
            raise DataError(
                "the file to resume is of another plan; give the same files and options,"
                " or start anew without --resume"
            )
        self._measured = {
            measurement.key: measurement
            for measurement in earlier.measurements
            if not measurement.invalid
        }
        self._peaks = dict(earlier.peak_macs_per_s)

    def measure(
        self,
        cells: Sequence[Cell],
        report: Callable[[str], None] = lambda line: None,
        keep: Callable[[], None] = lambda: None,
        extend: Callable[[int], None] = lambda count: None,
    ) -> Job:
        """Measure cells, round by round; each round of the plan also measures the machine's peak.

        Args:
            cells: all cells of the plan, or one machine's share of them.
            report: called with a line of text after each process.
            keep: called after each process, when `to_run` returns more than before.
            extend: called with the number of processes that a round beyond the plan adds.
        """
        orders = dataclasses.replace(self._plan, cells=tuple(cells)).orders() if cells else []
        threads = sorted({cell.num_threads for cell in cells})
        self._remaining = sum(map(len, orders))
        for number, order in enumerate(orders, 1):
            yield from self._measure_peaks(threads)
            for cell in order:
                self._remaining -= 1
                if self.is_done(cell, number):
                    report(f"{cell}: nothing left to do")
                    continue
                report((yield from self._measure_cell(cell, number)))
                keep()
        yield from self._measure_extra_rounds(cells, report, keep, extend)

    def _measure_extra_rounds(
        self,
        cells: Sequence[Cell],
        report: Callable[[str], None],
        keep: Callable[[], None],
        extend: Callable[[int], None],
    ) -> Job:
        """Measure the cells again that are not clear yet; see `bench.extra_rounds`."""
        by_key = {cell.key: cell for cell in cells if cell.key not in self._failed}
        while True:
            measured = [self._measured[key] for key in by_key if key in self._measured]
            keys = cells_of_extra_round(measured, self._plan)
            if not keys:
                return
            extend(len(keys))
            self._remaining = len(keys)
            earlier = [process.round or 0 for cell in measured for process in cell.processes]
            number = 1 + max(self._plan.rounds, *earlier)
            for cell in self._plan.extra_order([by_key[key] for key in keys], number):
                self._remaining -= 1
                report((yield from self._measure_cell(cell, number)))
                if cell.key in self._failed:
                    del by_key[cell.key]
                keep()

    def _measure_peaks(self, threads: list[int]) -> Job:
        """Measure the machine's peak at each thread count; the best of all rounds counts."""
        with contextlib.suppress(LenetEdgeError):  # without a peak, a chart lacks one line
            peaks = yield from limit.measure_peaks.bind(threads)
            check_types(peaks, dict[int, float], "peaks")  # a board may send anything
            for count in peaks.keys() & set(threads):
                peak = peaks[count]
                self._peaks[count] = max(peak, self._peaks.get(count, 0.0))

    def _measure_cell(self, cell: Cell, number: int) -> Generator[Call[Any], Any, str]:
        """Measure a cell in a process of this round; return a line of text for the user."""
        plan = self._plan
        call = timing.measure.bind(
            artifact=cell.pair.artifact.to_json(),
            target=dataclasses.asdict(cell.pair.target),
            batch_size=cell.batch_size,
            num_threads=cell.num_threads,
            stop=dataclasses.asdict(plan.stop.share(plan.rounds)),
            inputs=plan.inputs,
        )
        try:
            facts = yield from call.within(plan.timeout_s).in_new_process(
                plan.python_for(cell.pair)
            )
        except LenetEdgeError as error:
            self.mark_failed(cell, str(error))
            return f"{cell}: {error}"
        latest = Measurement.from_json(facts)
        check_measurement(latest)
        latest = latest.with_labels(round=number)
        if latest.key != cell.key:
            raise ValueError(f"nobody requested a measurement of {latest.key}")
        self._measured[cell.key] = _pool(self._measured.get(cell.key), latest)
        return f"{cell}: {latency(latest.processes[-1].p50_s)}"

    def is_done(self, cell: Cell, rounds: int) -> bool:
        """Tell whether a cell has failed, or been measured by that many processes."""
        measured = self._measured.get(cell.key)
        return cell.key in self._failed or (
            measured is not None and len(measured.processes) >= rounds
        )

    def mark_failed(self, cell: Cell, reason: str) -> None:
        """Record a failure and measure the cell no more: a hang would cost its time each round."""
        name, target, *_ = cell.key
        self._failed.add(cell.key)
        skip = Skipped(target, reason, name)
        if skip not in self._skipped:
            self._skipped.append(skip)
        measured = self._measured.get(cell.key)
        if measured is not None:
            number, rounds = len(measured.processes) + 1, self._plan.rounds
            of_rounds = f" of {rounds}" if number <= rounds else ""
            self._measured[cell.key] = dataclasses.replace(
                measured, invalid=f"process {number}{of_rounds} failed: {reason}"
            )

    def to_run(self) -> BenchRun:
        """Return the results so far."""
        run = BenchRun.of_this_machine(
            tuple(sorted(self._measured.values(), key=lambda measurement: measurement.key)),
            skipped=tuple(self._skipped),
            environment=self._environment,
        )
        return dataclasses.replace(
            run,
            settings=self._plan.settings,
            remaining=self._remaining,
            macs=self._macs,
            peak_macs_per_s=dict(self._peaks),
        )


def _pool(earlier: Measurement | None, latest: Measurement) -> Measurement:
    """Return the latest measurement of a cell with the samples of earlier processes added."""
    if earlier is None:
        return latest
    return dataclasses.replace(
        latest,
        processes=(*earlier.processes, *latest.processes),
        invalid=earlier.invalid or latest.invalid,
    )
