"""Verification and benchmark on every board of a fleet, on all boards at the same time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lenet_edge.bench.plan import Plan
from lenet_edge.fleet.connection import FleetBoard
from lenet_edge.flows.fleet_bench import FleetBench
from lenet_edge.flows.fleet_session import FleetSession, Report, verify_on_board
from lenet_edge.results.result_file import BenchRun, FleetRun, ParityReport, Skipped
from lenet_edge.selection import Pair
from lenet_edge.worker import Job

Begin = Callable[[int], Report]


def verify(
    session: FleetSession, settings: Mapping[str, Any], num_threads: int, begin: Begin
) -> FleetRun:
    """Compare each pair with the recorded reference, on each board that can run it.

    Args:
        session: the boards.
        settings: bounds that replace the defaults; see `verdict.bounds_for`.
        num_threads: threads for one inference.
        begin: called with the number of pairs of all boards. The function that it returns is
            called with a line of text after each pair.

    Raises:
        LenetEdgeError: the scheduler ended.
    """
    report = begin(sum(len(ready.pairs) for ready in session.boards.values()))
    remaining = {board: list(ready.pairs) for board, ready in session.boards.items()}
    parity: dict[FleetBoard, list[ParityReport]] = {board: [] for board in remaining}
    skipped = {board: list(ready.skipped) for board, ready in session.boards.items()}

    def job(board: FleetBoard) -> Job:
        while remaining[board]:
            pair = remaining[board][0]
            reports, failed = yield from verify_on_board(pair, settings, num_threads=num_threads)
            del remaining[board][0]
            parity[board] += reports
            skipped[board] += failed
            report(f"{board}: {pair.artifact.name} on {pair.target.name}")

    def on_lost(board: FleetBoard, reason: str) -> None:
        session.mark_lost(board, reason)
        skipped[board] += [
            Skipped(pair.target.name, f"{board} was lost: {reason}", pair.artifact.name)
            for pair in remaining[board]
        ]
        report(f"{board} is lost: {reason}")

    session.run_jobs(list(remaining), job, on_lost)
    runs = []
    for board, ready in session.boards.items():
        run = BenchRun.of_this_machine(
            (), tuple(parity[board]), tuple(skipped[board]), ready.environment
        )
        runs.append(dataclasses.replace(run, board=board.name))
    return FleetRun(tuple(runs), tuple(session.lost))


def bench(
    session: FleetSession,
    make_plan: Callable[[Sequence[Pair]], Plan],
    share: bool,
    begin: Begin,
    keep: Callable[[FleetRun], None] = lambda fleet: None,
    earlier: Sequence[BenchRun] = (),
) -> FleetRun:
    """Check each pair on the first test images, then measure its cells, on every board.

    Args:
        session: the boards.
        make_plan: returns the plan of a board for the pairs that it can run.
        share: True to divide the cells among equal boards; False to measure all on each board.
        begin: called with the number of processes. The function that it returns is called with a
            line of text after each process.
        keep: called with all results from time to time, and at the end, even after an error.
        earlier: the results of an interrupted run of the same plan, to be continued.

    Raises:
        LenetEdgeError: the scheduler ended.
        DataError: `earlier` is from other machines or another plan.
    """
    return FleetBench(session, make_plan, share, keep, earlier).run(begin)
