"""Sampling of a session: the warm-up, the clock reads, and the rule that ends the sampling.

One inference of LeNet takes a few microseconds, so the cost of reading the clock matters and is
measured first. Usually two clock reads enclose each call. If they cost more than a twentieth of
the call, they enclose a block of calls, and a sample is the mean of the block.
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
from lenet_edge.target import InputValues, Session

# Maximum cost of two clock reads, as a fraction of the call or of the block that they enclose.
MAX_CLOCK_OF_CALL, MAX_CLOCK_OF_BLOCK = 0.05, 0.01
_WARMUP_WINDOW_S, _WARMUP_WINDOWS = 0.025, 3
_WARMUP_TOLERANCE = 0.02
_MAX_WARMUP_S = 1.0
_CHECK_EVERY_S = 0.025

# Seconds of prepare, infer and read-out, one row per sample: float64 of shape (N, 3).
Rows = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StopRule:
    """Rule that ends the sampling.

    Sampling ends when `min_time_s` and `min_samples` are reached and half the 95 % confidence
    interval of the median, relative to the median, is at most `precision`. It always ends at
    `max_time_s`.
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
    """Result of a warm-up.

    Attributes:
        runs: the number of calls.
        infer_s: the median latency of the last calls in seconds.
        settled: True if the latency stopped falling.
    """

    runs: int
    infer_s: float
    settled: bool


def warm_up(session: Session, batches: Sequence[InputValues]) -> Warmup:
    """Call a session until its latency stops falling, for at most one second.

    The calls form windows of 25 ms or one call. The session has settled when the medians of the
    last three windows are within 4 % of their minimum, and the newest one within 2 %.
    """
    medians: list[float] = []
    runs, started = 0, time.perf_counter()
    while True:
        rows = take_samples(session, batches, 1, StopRule(0, _WARMUP_WINDOW_S, 0, 1), start=runs)
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
    """Measure the median time of two clock reads with nothing between them, in seconds."""
    clock = time.perf_counter_ns
    costs = np.empty(2000, np.int64)
    for index in range(len(costs)):
        begin = clock()
        costs[index] = clock() - begin
    # A coarse clock reads 0 most of the time. Half its step is then the uncertainty of a sample.
    return float(max(np.median(costs), np.min(costs[costs > 0], initial=10**9) / 2)) / 1e9


def calls_per_sample(infer_s: float, clock_s: float) -> int:
    """Return the number of calls that two clock reads should enclose.

    Args:
        infer_s: the time of one call with its clock reads.
        clock_s: the time of the clock reads.
    """
    if clock_s <= MAX_CLOCK_OF_CALL * infer_s:
        return 1
    call_s = max(infer_s - clock_s, clock_s / 10)
    return math.ceil(clock_s / MAX_CLOCK_OF_BLOCK / call_s)


def null_cost_s(session: Session, batches: Sequence[InputValues], calls: int) -> float:
    """Measure `infer` of a session that does nothing, sampled in the same way, in seconds."""
    null = NullSession(session.input_specs, session.output_specs)
    for _ in range(2):  # the first time, the interpreter still specializes its bytecode
        rows = take_samples(null, batches, calls, StopRule(0, 0.005, 0, 1))
    return float(np.median(rows[:, 1]))


def take_samples(
    session: Session, batches: Sequence[InputValues], calls: int, stop: StopRule, start: int = 0
) -> Rows:
    """Sample a session until the rule is met.

    Args:
        session: the session.
        batches: the inputs, used in turn.
        calls: calls of `infer` between two clock reads.
        stop: the rule that ends the sampling.
        start: the index of the first batch.

    Returns:
        The seconds of prepare, infer and read-out, one row per sample, in the order of time. If
        `calls` is above 1, those of infer are means.
    """
    clock = time.perf_counter_ns
    prepare, infer = session.prepare, session.infer
    read = session.logits if len(session.output_specs) == 1 else session.outputs
    stamps = array("q")
    started = checked = time.perf_counter()
    number = start
    gc.disable()  # a collection during a call would count as inference
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
                read()
                end = clock()
            else:
                begin = clock()
                prepare(batch)
                ready = clock()
                for _ in repeat(None, calls):
                    infer()
                done = clock()
                read()
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
    # A copy, because an array cannot grow while a view of it exists.
    return np.array(stamps, np.int64).reshape(-1, 3)


def _half_width(stamps: array[int]) -> float:
    latencies = _rows(stamps)[:, 1].astype(np.float64)
    low, high = median_interval(latencies)
    median = float(np.median(latencies))
    return (high - low) / 2 / median if median else 0.0
