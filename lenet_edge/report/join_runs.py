"""Join the runs of one machine, and pool those of equal boards.

Results of different machines are never joined: each kind of machine has its own ranking.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from lenet_edge.results.parity_report import VERDICTS
from lenet_edge.results.result_file import BenchRun, Measurement, ParityReport


def join_by_machine(runs: Iterable[BenchRun]) -> list[BenchRun]:
    """Return one run for each kind of machine, in order of first appearance."""
    return [pool(boards) for boards in group_by_machine(runs)]


def group_by_machine(runs: Iterable[BenchRun]) -> list[list[BenchRun]]:
    """Return groups of equal machines, with one run for each board of a fleet.

    Runs without the name of a board are assumed to come from the same machine.
    """
    groups: dict[Any, dict[str | None, list[BenchRun]]] = {}
    for run in runs:
        boards = groups.setdefault(run.environment.identity, {})
        boards.setdefault(run.board, []).append(run)
    return [[_join(own_runs) for own_runs in boards.values()] for boards in groups.values()]


def pool(boards: Sequence[BenchRun]) -> BenchRun:
    """Return the runs of equal boards as one run, with all valid processes of all boards.

    The parity of a pair is that of the board with the worst verdict.
    """
    if len(boards) == 1:
        return boards[0]
    measurements: dict[Any, list[Measurement]] = {}
    reports: dict[Any, list[ParityReport]] = {}
    for run in boards:
        for measurement in run.measurements:
            key = measurement.key, measurement.artifact_sha256
            measurements.setdefault(key, []).append(measurement.with_labels(board=run.board))
        for report in run.parity:
            reports.setdefault((report.candidate_sha256, report.target), []).append(report)
    joined = _join(boards)
    return dataclasses.replace(
        joined,
        board=None,
        measurements=tuple(
            _pool_cell(measurements[newest.key, newest.artifact_sha256])
            for newest in joined.measurements
        ),
        parity=tuple(
            max(
                reports[largest.candidate_sha256, largest.target],
                key=lambda report: (VERDICTS.index(report.verdict), report.num_samples),
            )
            for largest in joined.parity
        ),
        settings={
            **(boards[0].settings if _ran_same_plan(boards) else joined.settings),
            "boards": len(boards),
        },
    )


def _ran_same_plan(boards: Sequence[BenchRun]) -> bool:
    """Return True if the processes of every cell can be matched by board and round.

    The cells can then be compared in pairs, and the speed of a board cancels. Files of earlier
    versions have no number of the round: there, every cell must have the same processes.
    """
    cells_by_board = [
        {
            measurement.key: (len(measurement.processes), measurement.invalid)
            for measurement in run.measurements
        }
        for run in boards
    ]
    first = cells_by_board[0]
    counts = set(first.values())
    numbered = all(
        process.round is not None
        for run in boards
        for measurement in run.measurements
        for process in measurement.processes
    )
    same_processes = (
        len(counts) == 1
        and all(count > 0 and not invalid for count, invalid in counts)
        and all(cells == first for cells in cells_by_board)
    )
    same_plan = all(run.paired and run.settings == boards[0].settings for run in boards)
    return same_plan and (numbered or same_processes)


def _pool_cell(measurements: Sequence[Measurement]) -> Measurement:
    """Return one cell on equal boards as one measurement, with all valid processes."""
    valid = [measurement for measurement in measurements if not measurement.invalid]
    if not valid:
        return measurements[0]
    processes = tuple(process for measurement in valid for process in measurement.processes)
    return dataclasses.replace(valid[0], processes=processes)


def _join(runs: Sequence[BenchRun]) -> BenchRun:
    """Return runs of one machine as one run.

    If several runs have the same cell, the newest measurement is kept. So are the newest layer
    times of a pair and the newest counts of a file. If several have the same pair, the parity
    report on the most images is kept: the check before a bench uses few images.
    """
    if len(runs) == 1:
        return runs[0]
    in_order = sorted(runs, key=lambda run: run.created_at)
    measurements = {
        measurement.key: measurement for run in in_order for measurement in run.measurements
    }
    reports = [report for run in in_order for report in run.parity]
    parity = {
        (report.candidate, report.target): report
        for report in sorted(reports, key=lambda report: report.num_samples)
    }
    counts = {count.key: count for run in in_order for count in run.instruction_counts}
    cycles = {count.key: count for run in in_order for count in run.cycle_counts}
    benched = [run for run in in_order if run.measurements]
    settings = dict(benched[-1].settings) if benched else {}
    if len(benched) > 1:  # their rounds are not paired
        scenarios = {run.settings.get("scenario") for run in benched}
        settings = {
            "joined": len(benched),
            "scenario": scenarios.pop() if len(scenarios) == 1 else None,
            "precision": max(run.precision for run in benched),
        }
    threads = sorted({number for run in runs for number in run.peak_macs_per_s})
    peaks = {n: max(run.peak_macs_per_s.get(n, 0.0) for run in runs) for n in threads}
    return dataclasses.replace(
        benched[-1] if benched else in_order[-1],
        measurements=tuple(measurements[key] for key in sorted(measurements)),
        parity=tuple(parity[key] for key in sorted(parity)),
        skipped=tuple(dict.fromkeys(skip for run in in_order for skip in run.skipped)),
        instruction_counts=tuple(counts[key] for key in sorted(counts)),
        cycle_counts=tuple(cycles[key] for key in sorted(cycles)),
        layer_times=tuple({t.key: t for run in in_order for t in run.layer_times}.values()),
        settings=settings,
        remaining=sum(run.remaining for run in runs),
        commands=tuple(dict.fromkeys(command for run in in_order for command in run.commands)),
        macs={sha: count for run in in_order for sha, count in run.macs.items()},
        peak_macs_per_s=peaks,
    )
