"""Choice of the cells that get processes beyond the rounds of the plan.

On a quiet machine the rounds of the plan suffice. On a disturbed one, a cell gets more processes
while one of these is true:
  - So many processes of the run were slow as a whole that all processes of the cell may be.
  - The interval of its latency is wide.
  - Its interval overlaps that of a neighbour in the ranking, and they may differ by over 10 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby, pairwise

from lenet_edge.bench.plan import CellKey, Plan
from lenet_edge.results.measurement import Measurement

# Half-width of an interval between processes that is narrow enough, in units of the precision that
# the plan requests of the calls in one process.
_WIDTH = 5
_MAX_MISSED = 0.003  # probability that all processes of a cell are slow
_MAX_NEEDED = 8
_EXTRA_FACTOR = 2  # processes beyond the plan, as a multiple of the processes of the plan
_MAX_FACTOR = 4  # processes of a cell, as a multiple of the plan's rounds


def cells_of_extra_round(measurements: Sequence[Measurement], plan: Plan) -> list[CellKey]:
    """Return the cells that need one more process, the fastest cells first.

    Args:
        measurements: the measurements so far.
        plan: the plan. One with a single round gets no processes beyond it.
    """
    valid = [m for m in measurements if not m.invalid and m.target != "null"]
    if plan.rounds < 2:
        return []
    undecided = _unclear_neighbours(valid, plan)
    needed = _processes_needed(valid)
    wanted = [
        measurement
        for measurement in valid
        if _may_continue(measurement, plan)
        and (
            len(measurement.processes) < needed
            or measurement.estimate(plan.quantile).half_width > _WIDTH * plan.stop.precision
            or measurement.key in undecided
        )
    ]
    in_order = sorted(wanted, key=lambda m: (m.batch_size, m.estimate(plan.quantile).value))
    return [measurement.key for measurement in in_order[: _processes_left(measurements, plan)]]


def _processes_left(measurements: Sequence[Measurement], plan: Plan) -> int:
    """Return the number of processes beyond the plan that may still run."""
    extra = sum(max(len(m.processes) - plan.rounds, 0) for m in measurements)
    return max(_EXTRA_FACTOR * plan.rounds * len(measurements) - extra, 0)


def _may_continue(measurement: Measurement, plan: Plan) -> bool:
    """Return True if a cell has used neither its processes nor its time."""
    seconds = [process.seconds or 0.0 for process in measurement.processes]
    return (
        len(seconds) < _MAX_FACTOR * plan.rounds
        and sum(seconds) + max(seconds) <= plan.stop.max_time_s
    )


def _processes_needed(measurements: Sequence[Measurement]) -> int:
    """Return the number of processes of which at least one is undisturbed, almost certainly."""
    processes = sum(len(measurement.processes) for measurement in measurements)
    disturbed = sum(measurement.num_disturbed for measurement in measurements)
    if not disturbed:
        return 1
    needed = math.log(_MAX_MISSED) / math.log(disturbed / processes)
    return min(math.ceil(needed), _MAX_NEEDED)


def _unclear_neighbours(measurements: Sequence[Measurement], plan: Plan) -> set[CellKey]:
    """Return the wider cell of each two neighbours in a ranking that cannot be separated."""

    def ranking(measurement: Measurement) -> tuple[int, int]:
        return measurement.batch_size, measurement.num_threads

    unclear: set[CellKey] = set()
    for _, group in groupby(sorted(measurements, key=ranking), key=ranking):
        in_order = sorted(group, key=lambda m: m.estimate(plan.quantile).value)
        for faster, slower in pairwise(in_order):
            ratio = slower.ratio_to(faster, True, plan.stop.precision, plan.quantile)
            if ratio.undecided:
                widths = {m.key: m.estimate(plan.quantile).half_width for m in (faster, slower)}
                widest = max(widths.values())
                unclear |= {key for key, width in widths.items() if width > widest / 2}
    return unclear
