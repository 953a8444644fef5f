"""Sample a session: warm it up until it settles, choose how to clock it, stop when it is enough.

A LeNet answers in a few microseconds, where a careless timer measures itself. So the clock's own
cost is measured first. A call has a pair of clock reads of its own, unless they cost more than a
twentieth of it: then the reads enclose a block of calls, and a sample is the block's mean.
"""

from __future__ import annotations

import gc
import math
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import numpy.typing as npt

from lenet_edge.results.process_samples import MIN_SAMPLES_P99
from lenet_edge.results.stats import median_interval
from lenet_edge.runtimes.null import NullSession
from lenet_edge.target import Images, Session

# A pair of clock reads may cost this much of what it measures: of a call, or else of a block.
MAX_CLOCK_OF_CALL, MAX_CLOCK_OF_BLOCK = 0.05, 0.01
_WARMUP_WINDOW_S, _WARMUP_WINDOWS = 0.025, 3
_WARMUP_TOLERANCE = 0.02
_MAX_WARMUP_S = 1.0
_CHECK_EVERY_S = 0.025

# The seconds of prepare, infer and read-out, one row a sample: float64 of shape (N, 3).
Rows = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StopRule:
    """When there are enough samples.

    After `min_time_s` and `min_samples`, sampling stops as soon as the 95 % confidence interval
    of the median is narrower than `precision` (relative, half-width); at `max_time_s` it stops
    in any case.
    """

    min_time_s: float = 0.3
    max_time_s: float = 5.0
    precision: float = 0.01
    min_samples: int = MIN_SAMPLES_P99

    def share(self, processes: int) -> StopRule:
        """Return the rule for one of several processes that pool their samples."""
        return StopRule(
            self.min_time_s / processes,
            self.max_time_s / processes,
            self.precision,
            math.ceil(self.min_samples / processes),
        )


@dataclass(frozen=True)
class Warmup:
    """How a session came to its steady state: calls made, their last median, whether it held."""

    runs: int
    infer_s: float
    settled: bool


def warm_up(session: Session, batches: Sequence[Images]) -> Warmup:
    """Call a session until its latency no longer falls.

    Calls are made in windows of 25 ms (one call at the least). It has settled when, of the last
    three windows, the newest median is within 2 % of the lowest; after a second it is left as
    it is.
    """
    medians: list[float] = []
    runs, started = 0, time.perf_counter()
    while True:
        rows = take(session, batches, 1, StopRule(0, _WARMUP_WINDOW_S, 0, 1), start=runs)
        runs += len(rows)
        medians.append(float(np.median(rows[:, 1])))
        recent = medians[-_WARMUP_WINDOWS:]
        settled = (
            len(recent) == _WARMUP_WINDOWS and recent[-1] <= (1 + _WARMUP_TOLERANCE) * min(recent)
            and max(recent) <= (1 + 2 * _WARMUP_TOLERANCE) * min(recent)
        )  # fmt: skip
        if settled or time.perf_counter() - started > _MAX_WARMUP_S:
            return Warmup(runs, medians[-1], settled)


def clock_cost_s() -> float:
    """Return what a pair of clock reads takes: the median of many, with nothing in between."""
    clock = time.perf_counter_ns
    taken = np.empty(2000, np.int64)
    for index in range(len(taken)):
        begin = clock()
        taken[index] = clock() - begin
    # A coarse clock reads 0 most of the time; then its step is what it costs in precision.
    return float(max(np.median(taken), np.min(taken[taken > 0], initial=10**9) / 2)) / 1e9


def calls_per_sample(infer_s: float, clock_s: float) -> int:
    """Return how many calls a pair of clock reads should enclose.

    Args:
        infer_s: what a call takes, the clock included.
        clock_s: what the clock takes of it.
    """
    if clock_s <= MAX_CLOCK_OF_CALL * infer_s:
        return 1
    call_s = max(infer_s - clock_s, clock_s / 10)
    return math.ceil(clock_s / MAX_CLOCK_OF_BLOCK / call_s)


def null_cost_s(session: Session, batches: Sequence[Images], calls: int) -> float:
    """Return what `infer` of a session that does nothing takes when it is sampled alike."""
    null = NullSession(session.inputs, session.outputs)
    for _ in range(2):  # the first time the interpreter still adapts itself to another session
        rows = take(null, batches, calls, StopRule(0, 0.005, 0, 1))
    return float(np.median(rows[:, 1]))


def take(
    session: Session, batches: Sequence[Images], calls: int, stop: StopRule, start: int = 0
) -> Rows:
    """Sample a session until the rule is met.

    Args:
        session: what is sampled.
        batches: real inputs, used in turn.
        calls: of `infer` between two clock reads.
        stop: when it is enough.
        start: which batch comes first.

    Returns:
        The seconds of prepare, infer and read-out, a row for each sample in the order they were
        taken. Where `calls` is more than 1, those of infer are means.
    """
    clock = time.perf_counter_ns
    prepare, infer, logits = session.prepare, session.infer, session.logits
    stamps = array("q")
    started = checked = time.perf_counter()
    number = start
    gc.disable()  # a collection in the middle of a call would be counted as inference
    try:
        while True:
            batch = batches[number % len(batches)]
            number += 1
            if calls == 1:
                begin = clock()
                prepare(batch)
                ready = clock()
                infer()
                done = clock()
                logits()
                end = clock()
            else:
                begin = clock()
                prepare(batch)
                ready = clock()
                for _ in repeat(None, calls):
                    infer()
                done = clock()
                logits()
                end = clock()
            stamps.extend((ready - begin, done - ready, end - done))
            now = end / 1e9
            if now - checked < _CHECK_EVERY_S and now - started < stop.max_time_s:
                continue
            checked = now
            if now - started >= stop.max_time_s or (
                now - started >= stop.min_time_s
                and number - start >= stop.min_samples
                and _half_width(stamps) <= stop.precision
            ):
                break
    finally:
        gc.enable()
    return _rows(stamps) / (1e9, 1e9 * calls, 1e9)


def _rows(stamps: array[int]) -> npt.NDArray[np.int64]:
    # A copy, because the array cannot grow while something looks into it.
    return np.array(stamps, np.int64).reshape(-1, 3)


def _half_width(stamps: array[int]) -> float:
    latencies = _rows(stamps)[:, 1].astype(np.float64)
    low, high = median_interval(latencies)
    median = float(np.median(latencies))
    return (high - low) / 2 / median if median else 0.0
