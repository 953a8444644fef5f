"""Result files sorted by machine: what two machines found is never one ranking."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from lenet_edge.results import BenchRun


def by_machine(runs: Iterable[BenchRun]) -> list[BenchRun]:
    """Return one run for each machine, in the order in which the machines first appear."""
    groups: dict[Any, list[BenchRun]] = {}
    for run in runs:
        groups.setdefault(run.environment.identity, []).append(run)
    return [_join(group) for group in groups.values()]


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
