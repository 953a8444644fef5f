"""Result files sorted by machine: what two kinds of machine found is never one ranking."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from lenet_edge.results.result_file import BenchRun, Measurement, ParityReport

_WORSE = {"pass": 0, "inconclusive": 1, "fail": 2}


def by_machine(runs: Iterable[BenchRun]) -> list[BenchRun]:
    """Return one run for each machine, in the order in which the machines first appear."""
    return [join(boards) for boards in by_kind(runs)]


def by_kind(runs: Iterable[BenchRun]) -> list[list[BenchRun]]:
    """Return the runs in groups of equal machines, one run for each board of a fleet in it.

    Runs that name no board are all taken for those of one machine.
    """
    kinds: dict[Any, dict[str | None, list[BenchRun]]] = {}
    for run in runs:
        kinds.setdefault(run.environment.identity, {}).setdefault(run.board, []).append(run)
    return [[_join(of_board) for of_board in boards.values()] for boards in kinds.values()]


def join(boards: Sequence[BenchRun]) -> BenchRun:
    """Return the runs of equal boards as one, in which each valid process of each board counts.

    A file is as right as on the board that answers worst.
    """
    if len(boards) == 1:
        return boards[0]
    found: dict[Any, list[Measurement]] = {}
    proofs: dict[Any, list[ParityReport]] = {}
    for run in boards:
        for one in run.measurements:
            found.setdefault((one.key, one.artifact_sha256), []).append(one)
        for report in run.parity:
            proofs.setdefault((report.candidate_sha256, report.target), []).append(report)
    whole = _join(boards)
    return dataclasses.replace(
        whole,
        board=None,
        measurements=tuple(
            _pool(found[one.key, one.artifact_sha256]) for one in whole.measurements
        ),
        parity=tuple(
            max(
                proofs[one.candidate_sha256, one.target],
                key=lambda report: (_WORSE[report.verdict], report.num_samples),
            )
            for one in whole.parity
        ),
        settings={
            **(boards[0].settings if _alike(boards) else whole.settings),
            "boards": len(boards),
        },
    )


def _alike(boards: Sequence[BenchRun]) -> bool:
    """Tell whether every board did the same, so that process i of any cell is of one board's round.

    Then what makes a board slow cancels when two cells are compared.
    """
    done = [
        {one.key: (len(one.processes), one.invalid) for one in run.measurements} for run in boards
    ]
    counts = set(done[0].values())
    return (
        len(counts) == 1
        and all(count > 0 and not invalid for count, invalid in counts)
        and all(one == done[0] for one in done)
        and all(run.paired and run.settings == boards[0].settings for run in boards)
    )


def _pool(cells: Sequence[Measurement]) -> Measurement:
    """Return one cell on equal boards as one measurement, of all that is valid."""
    valid = [one for one in cells if not one.invalid]
    if not valid:
        return cells[0]
    trials = tuple(trial for one in valid for trial in one.processes)
    return dataclasses.replace(valid[0], processes=trials)


def _join(runs: Sequence[BenchRun]) -> BenchRun:
    """Return runs of one machine as one; of what several of them found, the newest counts.

    Of parity it is what saw the most images: the check before a bench sees few.
    """
    if len(runs) == 1:
        return runs[0]
    in_order = sorted(runs, key=lambda run: run.created_at)
    measurements = {one.key: one for run in in_order for one in run.measurements}
    seen = sorted((one for run in in_order for one in run.parity), key=lambda one: one.num_samples)
    parity = {(one.candidate, one.target): one for one in seen}
    timed = [run for run in in_order if run.measurements]
    settings = dict(timed[-1].settings) if timed else {}
    if len(timed) > 1:  # their rounds do not belong together
        scenarios = {run.settings.get("scenario") for run in timed}
        settings = {
            "joined": len(timed),
            "scenario": scenarios.pop() if len(scenarios) == 1 else None,
            "precision": max(run.settings.get("precision", 0.0) for run in timed),
        }
    threads = sorted({number for run in runs for number in run.peak_macs_per_s})
    peaks = {n: max(run.peak_macs_per_s.get(n, 0.0) for run in runs) for n in threads}
    return dataclasses.replace(
        timed[-1] if timed else in_order[-1],
        measurements=tuple(measurements[key] for key in sorted(measurements)),
        parity=tuple(parity[key] for key in sorted(parity)),
        skipped=tuple(dict.fromkeys(one for run in in_order for one in run.skipped)),
        settings=settings,
        remaining=sum(run.remaining for run in runs),
        macs={sha: count for run in in_order for sha, count in run.macs.items()},
        peak_macs_per_s=peaks,
    )
