"""The plan of a benchmark: its cells, and running each in processes of its own, round by round."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.bench import limit, timing
from lenet_edge.bench.sampling import StopRule
from lenet_edge.errors import DataError, LenetEdgeError
from lenet_edge.machine.environment import Environment, read_environment
from lenet_edge.results.result_file import BenchRun, Measurement, Skipped
from lenet_edge.runtimes import get_target
from lenet_edge.selection import Pair

DEFAULT_BATCH_SIZES = (1, 8, 32, 128)


@dataclass(frozen=True)
class Cell:
    """One thing to measure."""

    pair: Pair
    batch_size: int
    num_threads: int

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What names this cell's `Measurement`: file name, target, batch size, threads."""
        return self.pair.artifact.name, self.pair.target.name, self.batch_size, self.num_threads

    def __str__(self) -> str:
        name, target, batch_size, threads = self.key
        more = f", {threads} threads" if threads > 1 else ""
        return f"{name} on {target}, batch {batch_size}{more}"


def expand(
    pairs: Sequence[Pair], batch_sizes: Sequence[int], num_threads: Sequence[int] = (1,)
) -> tuple[Cell, ...]:
    """Return every cell; a file with a fixed batch is measured at that one only."""
    return tuple(
        Cell(pair, batch_size, threads)
        for pair in pairs
        for batch_size in batch_sizes
        for threads in num_threads
        if pair.artifact.batch_size in (None, batch_size)
    )


def elsewhere(
    artifacts: Sequence[Artifact], missing: Sequence[Skipped], pythons: Mapping[str, Path]
) -> tuple[list[Pair], list[Skipped]]:
    """Return the pairs whose runtime is missing here but has a Python named for it, and the rest.

    Args:
        artifacts: all files.
        missing: what this Python cannot run.
        pythons: interpreters by the name of a target or a runtime.
    """
    pairs, rest = [], []
    for one in missing:
        target = get_target(one.target)
        if {target.name, target.runtime} & set(pythons):
            pairs += [Pair(file, target) for file in artifacts if file.format in target.formats]
        else:
            rest.append(one)
    return pairs, rest


@dataclass(frozen=True)
class Plan:
    """What to measure and how.

    Each cell is measured by `rounds` processes that pool their samples and share the times of
    `stop`. A round runs every cell once, in an order of its own that `seed` decides, so that what
    drifts in the machine hits all alike. `pythons` are interpreters of other environments by the
    name of a target or a runtime; "" stands for all others.
    """

    cells: tuple[Cell, ...]
    rounds: int = 3
    seed: int = 0
    stop: StopRule = field(default_factory=StopRule)
    timeout_s: float = 300.0
    pythons: Mapping[str, Path] = field(default_factory=dict)
    scenario: str | None = None

    def steps(self) -> list[Cell]:
        """Return the cells in the order they run: as many shuffled copies as there are rounds."""
        generator = random.Random(self.seed)
        return [
            cell
            for _ in range(self.rounds)
            for cell in generator.sample(self.cells, len(self.cells))
        ]

    @property
    def settings(self) -> dict[str, Any]:
        """What a result file keeps of the plan, and a run that resumes it must share."""
        rule = dataclasses.asdict(self.stop)
        return {"rounds": self.rounds, "seed": self.seed, "scenario": self.scenario, **rule}

    def python_for(self, pair: Pair) -> Path | None:
        """Return the interpreter that a pair's workers run in; None for this one."""
        for name in (pair.target.name, pair.target.runtime, ""):
            if name in self.pythons:
                return self.pythons[name]
        return None


def run(
    plan: Plan,
    report: Callable[[str], None] = lambda what: None,
    keep: Callable[[BenchRun], None] = lambda run: None,
    earlier: BenchRun | None = None,
    skipped: Sequence[Skipped] = (),
) -> BenchRun:
    """Measure each cell in fresh processes; one that fails costs itself and nothing else.

    Args:
        plan: what to measure.
        report: called with what was measured as each process is done.
        keep: called with all that is known as each process is done.
        earlier: what the same plan had found when it was stopped; only the rest is measured.
        skipped: what is known not to run.

    Returns:
        The measurements, sorted by file, target, batch size and threads; and what failed, with
        the reason.

    Raises:
        DataError: `earlier` is of another machine or another plan.
    """
    progress = Progress(plan, read_environment(), skipped)
    if earlier is not None:
        progress.resume(earlier)
    worker.run_locally(progress.work(plan.cells, report, lambda: keep(progress.found())))
    return progress.found()


class Progress:
    """What is known so far of each cell of a plan, on one machine."""

    def __init__(
        self,
        plan: Plan,
        here: Environment,
        skipped: Iterable[Skipped] = (),
        macs: dict[str, int] | None = None,
    ) -> None:
        self._plan, self._here, self.skipped = plan, here, list(skipped)
        self.measured: dict[tuple[str, str, int, int], Measurement] = {}
        self._failed: set[tuple[str, str, int, int]] = set()
        self._macs = limit.macs(cell.pair.artifact for cell in plan.cells) if macs is None else macs
        self._peaks: dict[int, float] = {}
        self.remaining = 0

    def resume(self, earlier: BenchRun) -> None:
        """Take up what an earlier run of the same plan on this machine had found.

        Raises:
            DataError: it is of another machine or another plan.
        """
        if earlier.environment.identity != self._here.identity:
            raise DataError(
                f"the file to resume is from another machine ({earlier.environment.machine},"
                f" {earlier.environment.cores} cores); start anew without --resume"
            )
        files = {cell.key: cell.pair.artifact.sha256 for cell in self._plan.cells}
        same_files = all(files.get(one.key) == one.artifact_sha256 for one in earlier.measurements)
        if earlier.settings != self._plan.settings or not same_files:
            raise DataError(
                "the file to resume is of another plan; give the same files and options,"
                " or start anew without --resume"
            )
        # What failed is tried again: it may have been for want of memory or time.
        self.measured = {one.key: one for one in earlier.measurements if not one.invalid}
        self._peaks = dict(earlier.peak_macs_per_s)

    def work(
        self,
        cells: Sequence[Cell],
        report: Callable[[str], None] = lambda what: None,
        keep: Callable[[], None] = lambda: None,
    ) -> worker.Job:
        """Measure these cells, round by round; each round also tries what the machine can do.

        Args:
            cells: all cells of the plan, or the share of one machine among several.
            report: called with what was measured as each process is done.
            keep: called as each process is done, when there is more to be `found`.
        """
        steps = dataclasses.replace(self._plan, cells=tuple(cells)).steps()
        threads = sorted({cell.num_threads for cell in cells})
        self.remaining = len(steps)
        for number, cell in enumerate(steps):
            if number % len(cells) == 0:
                peaks = yield from limit.peaks.bind(threads)
                for count, peak in peaks.items():  # the best of all rounds counts
                    self._peaks[count] = max(peak, self._peaks.get(count, 0.0))
            self.remaining -= 1
            if self.is_done(cell, 1 + number // len(cells)):
                report(f"{cell}: nothing left to do")
                continue
            try:
                said = self._take(cell, (yield from self._call(cell)))
            except LenetEdgeError as error:
                self.fail(cell, str(error))
                said = f"{cell}: {error}"
            report(said)
            keep()

    def is_done(self, cell: Cell, rounds: int) -> bool:
        """Tell whether a cell has failed, or been measured by that many processes."""
        measured = self.measured.get(cell.key)
        return cell.key in self._failed or (
            measured is not None and len(measured.processes) >= rounds
        )

    def _call(self, cell: Cell) -> worker.Call[dict[str, Any]]:
        plan = self._plan
        call = timing.measure.bind(
            artifact=cell.pair.artifact.to_json(),
            target=dataclasses.asdict(cell.pair.target),
            batch_size=cell.batch_size,
            num_threads=cell.num_threads,
            stop=dataclasses.asdict(plan.stop.share(plan.rounds)),
        )
        return call.within(plan.timeout_s).in_new_process(plan.python_for(cell.pair))

    def _take(self, cell: Cell, answer: dict[str, Any]) -> str:
        """Add what one more process found of a cell, and say it in a line."""
        before, found = self.measured.get(cell.key), Measurement.from_json(answer)
        if before is not None:
            found = dataclasses.replace(
                found,
                processes=(*before.processes, *found.processes),
                invalid=before.invalid or found.invalid,
            )
        self.measured[cell.key] = found
        return f"{cell}: {found.processes[-1].p50_s * 1e6:,.1f} us"

    def fail(self, cell: Cell, reason: str) -> None:
        """Give a cell up: what crashes or hangs once would cost every round its time."""
        name, target, *_ = cell.key
        self._failed.add(cell.key)
        skip = Skipped(target, reason, name)
        if skip not in self.skipped:
            self.skipped.append(skip)
        before = self.measured.get(cell.key)
        if before is not None:
            done, rounds = len(before.processes), self._plan.rounds
            self.measured[cell.key] = dataclasses.replace(
                before, invalid=f"process {done + 1} of {rounds} failed: {reason}"
            )

    def found(self) -> BenchRun:
        """Return all that is known."""
        return dataclasses.replace(
            BenchRun.of_this_machine(
                _sorted(self.measured.values()),
                skipped=tuple(self.skipped),
                environment=self._here,
            ),
            settings=self._plan.settings,
            remaining=self.remaining,
            macs=self._macs,
            peak_macs_per_s=self._peaks,
        )


def _sorted(measurements: Iterable[Measurement]) -> tuple[Measurement, ...]:
    return tuple(sorted(measurements, key=lambda one: one.key))
