"""Benchmark on a fleet: the assignment of cells to boards, and the results of each board."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lenet_edge.bench import limit
from lenet_edge.bench.plan import Cell, CellKey, Plan, refused_batches
from lenet_edge.bench.run_plan import BenchProgress
from lenet_edge.data.evaluation_images import has_reference
from lenet_edge.fleet.connection import FleetBoard
from lenet_edge.flows.check import is_checked
from lenet_edge.flows.console import Step
from lenet_edge.flows.fleet_session import FleetSession, Report, verify_on_board
from lenet_edge.results.enough_images import NUM_CHECKED
from lenet_edge.results.result_file import BenchRun, FleetRun, ParityReport
from lenet_edge.selection import Pair
from lenet_edge.verify.verdict import read_bounds
from lenet_edge.worker import Job

_SAVING_SHARE = 0.05  # maximum share of the time for saving results, which grow with the fleet


class FleetBench:
    """A benchmark on the boards of a session; `flows.fleet.bench` explains the arguments."""

    def __init__(
        self,
        session: FleetSession,
        make_plan: Callable[[Sequence[Pair]], Plan],
        share: bool,
        keep: Callable[[FleetRun], None] = lambda fleet: None,
        earlier: Sequence[BenchRun] = (),
    ) -> None:
        self._session, self._keep, self._next_keep = session, keep, 0.0
        self._report: Report = lambda line: None
        self._settings = read_bounds(Path())
        artifacts = session.choice.artifacts
        self._with_reference = {a.sha256 for a in artifacts if has_reference(a)}
        boards = session.boards
        self._plans = {board: make_plan(ready.pairs) for board, ready in boards.items()}
        macs = limit.count_macs(artifacts)
        self._progress = {
            board: BenchProgress(
                self._plans[board],
                ready.environment,
                (*ready.skipped, *refused_batches(ready.pairs, self._plans[board].cells)),
                macs,
            )
            for board, ready in boards.items()
        }
        self._parity: dict[FleetBoard, list[ParityReport]] = {board: [] for board in boards}
        # The cells of each board, and those of them that its job has not taken yet.
        self._assigned: dict[FleetBoard, dict[CellKey, Cell]] = {board: {} for board in boards}
        self._pending: dict[FleetBoard, list[Cell]] = {board: [] for board in boards}
        self._runs_of_absent_boards = self._resume(earlier)
        if share:
            self._assign_shares()
        else:
            for board, plan in self._plans.items():
                for cell in plan.cells:
                    self._assign(cell, [board])

    def _resume(self, earlier: Sequence[BenchRun]) -> list[BenchRun]:
        """Continue the earlier runs of these boards; return the runs of other boards."""
        boards = {board.name: board for board in self._session.boards}
        for run in earlier:
            board = boards.get(run.board or "")
            if board:
                self._progress[board].resume(run)
                self._parity[board] = list(run.parity)
        return [run for run in earlier if run.board not in boards]

    def _assign_shares(self) -> None:
        """Divide the cells among equal boards; a board keeps the cells that it has completed."""
        for board, plan in self._plans.items():
            for cell in plan.cells:
                if self._progress[board].is_done(cell, plan.rounds):
                    self._assigned[board][cell.key] = cell
        for board, plan in self._plans.items():
            equals = [board, *self._session.equal_boards(board)]
            for cell in plan.cells:
                if not any(cell.key in self._assigned[equal] for equal in equals):
                    self._assign(cell, equals)

    def _assign(self, cell: Cell, boards: Sequence[FleetBoard]) -> FleetBoard | None:
        """Assign a cell to the board with the fewest pending cells, of those that can run it."""
        candidates = [
            (len(self._pending[board]), board.name, board, own_cell)
            for board in boards
            for own_cell in self._plans[board].cells
            if own_cell.key == cell.key
        ]
        if not candidates:
            return None
        *_, board, own_cell = min(candidates, key=lambda candidate: candidate[:2])
        self._assigned[board][own_cell.key] = own_cell
        self._pending[board].append(own_cell)
        return board

    @property
    def num_processes(self) -> int:
        """The number of processes that measure the pending cells."""
        return sum(len(cells) * self._plans[board].rounds for board, cells in self._pending.items())

    def run(self, begin: Callable[[int], Report]) -> FleetRun:
        """Run the benchmark; `begin` as in `flows.fleet.bench`."""
        self._report = begin(self.num_processes)
        try:
            self._session.run_jobs(list(self._session.boards), self._job, self._on_lost)
        finally:
            self._keep(self.to_fleet_run())
        return self.to_fleet_run()

    def _job(self, board: FleetBoard) -> Job:
        """Check and measure the pending cells of a board, and those that it gets meanwhile."""
        while self._pending[board]:
            cells, self._pending[board] = self._pending[board], []
            yield from self._check(board, cells)
            yield from self._progress[board].measure(
                cells,
                lambda line: self._report(f"{board}: {line}"),
                self._keep_sometimes,
                self._extend,
            )

    def _extend(self, count: int) -> None:
        if isinstance(self._report, Step):
            self._report.extend(count)

    def _check(self, board: FleetBoard, cells: Sequence[Cell]) -> Job:
        """Verify each pair that has a reference and no report yet; its cells fail with it."""
        checked = {(report.candidate_sha256, report.target) for report in self._parity[board]}
        for pair in dict.fromkeys(cell.pair for cell in cells):
            sha256 = pair.artifact.sha256
            if sha256 not in self._with_reference or (sha256, pair.target.name) in checked:
                continue
            if not is_checked(pair):
                continue
            reports, failed = yield from verify_on_board(
                pair, self._settings, self._plans[board].timeout_s, num_images=NUM_CHECKED
            )
            self._parity[board] += reports
            for skip in failed:
                for cell in cells:
                    if cell.pair == pair:
                        self._progress[board].mark_failed(cell, skip.reason)

    def _on_lost(self, board: FleetBoard, reason: str) -> None:
        """Assign the unfinished cells of a lost board to equal boards that do not have them."""
        self._session.mark_lost(board, reason)
        self._report(f"{board} is lost: {reason}")
        equals, progress = self._session.equal_boards(board), self._progress[board]
        for key, cell in self._assigned[board].items():
            if progress.is_done(cell, self._plans[board].rounds):
                continue
            other = next((equal for equal in equals if key in self._assigned[equal]), None)
            other = other or self._assign(cell, equals)
            consequence = f"{other} measures it" if other else "no equal board is there"
            progress.mark_failed(cell, f"{board} was lost ({reason}); {consequence}")
        self._pending[board] = []

    def _keep_sometimes(self) -> None:
        """Keep the results, unless this would take more than `_SAVING_SHARE` of the time."""
        started = time.monotonic()
        if started >= self._next_keep:
            self._keep(self.to_fleet_run())
            now = time.monotonic()
            self._next_keep = now + (now - started) / _SAVING_SHARE

    def to_fleet_run(self) -> FleetRun:
        """Return the results so far."""
        runs = (
            dataclasses.replace(
                progress.to_run(), parity=tuple(self._parity[board]), board=board.name
            )
            for board, progress in self._progress.items()
        )
        return FleetRun((*runs, *self._runs_of_absent_boards), tuple(self._session.lost))
