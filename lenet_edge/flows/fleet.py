"""Verify and bench on every board of a fleet, each by itself and all at the same time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet_edge.bench import limit
from lenet_edge.bench.plan import Cell, Plan, Progress
from lenet_edge.data.evaluation_images import has_reference
from lenet_edge.fleet.connection import Board
from lenet_edge.flows.check import NUM_IMAGES
from lenet_edge.flows.fleet_session import Choice, FleetSession, Report, prove
from lenet_edge.results.result_file import BenchRun, FleetRun, ParityReport, Skipped
from lenet_edge.selection import Pair
from lenet_edge.verify.verdict import read_bounds
from lenet_edge.worker import Job

if TYPE_CHECKING:
    from distributed import Client

Begin = Callable[[int], Report]
_SAVING_SHARE = 0.05  # of the time may go into keeping what was found: it grows with the fleet


def verify(
    client: Client, choice: Choice, settings: Mapping[str, Any], num_threads: int, begin: Begin
) -> FleetRun:
    """Return what every board answers against the recorded float model: a proof for each board.

    Args:
        client: of the scheduler that the boards are at.
        choice: what to run.
        settings: bounds instead of the defaults; see `verdict.bounds_for`.
        num_threads: threads for one inference.
        begin: called with how many proofs there will be; what it returns, as each is done.

    Raises:
        LenetEdgeError: as `FleetSession`.
    """
    crew = FleetSession(client, choice)
    report = begin(sum(len(one.pairs) for one in crew.stations.values()))
    left = {board: list(station.pairs) for board, station in crew.stations.items()}
    parity: dict[Board, list[ParityReport]] = {board: [] for board in left}
    skipped = {board: list(station.skipped) for board, station in crew.stations.items()}

    def work(board: Board) -> Job:
        while left[board]:
            pair = left[board][0]
            found, failed = yield from prove(pair, settings=settings, num_threads=num_threads)
            del left[board][0]
            parity[board] += found
            skipped[board] += failed
            report(f"{board}: {pair.artifact.name} on {pair.target.name}")

    def lose(board: Board, reason: str) -> None:
        crew.lose(board, reason)
        skipped[board] += [
            Skipped(pair.target.name, f"{board} was lost: {reason}", pair.artifact.name)
            for pair in left[board]
        ]
        report(f"{board} is lost: {reason}")

    crew.work(list(left), work, lose)
    runs = (
        BenchRun.of_this_machine(
            (), tuple(parity[board]), tuple(skipped[board]), station.environment
        )
        for board, station in crew.stations.items()
    )
    return FleetRun(
        tuple(
            dataclasses.replace(run, board=board.name)
            for run, board in zip(runs, left, strict=True)
        ),
        tuple(crew.lost),
    )


def bench(
    client: Client,
    choice: Choice,
    make_plan: Callable[[Sequence[Pair]], Plan],
    share: bool,
    begin: Begin,
    keep: Callable[[FleetRun], None] = lambda fleet: None,
    earlier: Sequence[BenchRun] = (),
) -> FleetRun:
    """Return what every board measures, after it has checked each file on the first test images.

    Args:
        client: of the scheduler that the boards are at.
        choice: what to run.
        make_plan: makes the plan of a board from what it can run.
        share: whether equal boards divide the cells among them, instead of each measuring all.
        begin: called with how many processes there will be; what it returns, as each is done.
        keep: called now and then with all that is known, and at the end, however that comes.
        earlier: what the same plan had found when it was stopped; only the rest is measured.

    Raises:
        LenetEdgeError: as `FleetSession`; or the scheduler went away.
        DataError: `earlier` is of other machines or another plan.
    """
    crew = FleetSession(client, choice)
    bench = _Bench(crew, choice, make_plan, keep, earlier)
    bench.deal(share)
    bench.report = begin(bench.num_processes)
    try:
        crew.work(list(crew.stations), bench.work, bench.lose)
    finally:
        keep(bench.found())
    return bench.found()


class _Bench:
    """Who has which cells to do, and what each has found."""

    def __init__(
        self,
        crew: FleetSession,
        choice: Choice,
        make_plan: Callable[[Sequence[Pair]], Plan],
        keep: Callable[[FleetRun], None],
        earlier: Sequence[BenchRun],
    ) -> None:
        self._crew, self._keep, self._next_keep = crew, keep, 0.0
        self.report: Report = lambda what: None
        self._settings = read_bounds(Path())
        self._known = {one.sha256 for one in choice.artifacts if has_reference(one)}
        stations = crew.stations.items()
        self._plans = {board: make_plan(station.pairs) for board, station in stations}
        macs = limit.macs(choice.artifacts)
        self._progress = {
            board: Progress(self._plans[board], station.environment, station.skipped, macs)
            for board, station in stations
        }
        self._parity: dict[Board, list[ParityReport]] = {board: [] for board in crew.stations}
        # What each has been given, done or not, and of that what it has not begun with.
        self._given: dict[Board, dict[Any, Cell]] = {board: {} for board in crew.stations}
        self._waiting: dict[Board, list[Cell]] = {board: [] for board in crew.stations}
        self._absent = self._resume(earlier)

    def _resume(self, earlier: Sequence[BenchRun]) -> list[BenchRun]:
        """Take up earlier runs; return those of boards that are not here now."""
        boards = {board.name: board for board in self._crew.stations}
        for run in earlier:
            board = boards.get(run.board or "")
            if board:
                self._progress[board].resume(run)
                self._parity[board] = list(run.parity)
        return [run for run in earlier if run.board not in boards]

    def deal(self, share: bool) -> None:
        """Give every board its cells: all that it can run, or its part of what its equals can."""
        for board, planned in self._plans.items():
            for cell in planned.cells:
                if not share:
                    self._give(cell, [board])
                elif self._progress[board].is_done(cell, planned.rounds):
                    self._given[board][cell.key] = cell
        if share:
            for board, planned in self._plans.items():
                equals = [board, *self._crew.equals(board)]
                for cell in planned.cells:
                    if not any(cell.key in self._given[one] for one in equals):
                        self._give(cell, equals)

    def _give(self, cell: Cell, boards: Sequence[Board]) -> Board | None:
        """Give a cell to the board that has least to do, of those that can run it."""
        able = [
            (len(self._waiting[board]), board.name, board, own)
            for board in boards
            for own in self._plans[board].cells
            if own.key == cell.key
        ]
        if not able:
            return None
        *_, board, own = min(able)
        self._given[board][own.key] = own
        self._waiting[board].append(own)
        return board

    @property
    def num_processes(self) -> int:
        """How many processes are to be started, those that check apart."""
        return sum(len(cells) * self._plans[board].rounds for board, cells in self._waiting.items())

    def work(self, board: Board) -> Job:
        """Check and measure what a board was given, and what it is given meanwhile."""
        progress = self._progress[board]
        while self._waiting[board]:
            cells, self._waiting[board] = self._waiting[board], []
            seen = {(one.candidate_sha256, one.target) for one in self._parity[board]}
            for pair in dict.fromkeys(cell.pair for cell in cells):
                sha = pair.artifact.sha256
                if sha not in self._known or (sha, pair.target.name) in seen:
                    continue
                found, failed = yield from prove(
                    pair, self._plans[board].timeout_s,
                    settings=self._settings, num_images=NUM_IMAGES,
                )  # fmt: skip
                self._parity[board] += found
                for one in failed:
                    for cell in (cell for cell in cells if cell.pair == pair):
                        progress.fail(cell, one.reason)
            yield from progress.work(
                cells, lambda what: self.report(f"{board}: {what}"), self._keep_now_and_then
            )

    def lose(self, board: Board, reason: str) -> None:
        """Give what a lost board has not done to an equal one, unless that does it anyway."""
        self._crew.lose(board, reason)
        self.report(f"{board} is lost: {reason}")
        equals, progress = self._crew.equals(board), self._progress[board]
        for key, cell in self._given[board].items():
            if progress.is_done(cell, self._plans[board].rounds):
                continue
            other = next((one for one in equals if key in self._given[one]), None)
            other = other or self._give(cell, equals)
            then = f"{other} measures it" if other else "no equal board is there"
            progress.fail(cell, f"{board} was lost ({reason}); {then}")
        self._waiting[board] = []

    def _keep_now_and_then(self) -> None:
        started = time.monotonic()
        if started >= self._next_keep:
            self._keep(self.found())
            now = time.monotonic()
            self._next_keep = now + (now - started) / _SAVING_SHARE

    def found(self) -> FleetRun:
        """Return all that is known."""
        runs = (
            dataclasses.replace(
                progress.found(), parity=tuple(self._parity[board]), board=board.name
            )
            for board, progress in self._progress.items()
        )
        return FleetRun((*runs, *self._absent), tuple(self._crew.lost))
