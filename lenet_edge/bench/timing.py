"""Time one file on one target at one batch size; runs in a worker process of its own.

A LeNet answers in tens of microseconds, where a careless timer measures itself. So: each call has
its own pair of clock reads (0.1 us); `prepare` and `logits` are timed apart from `infer`; the
images are real and change from call to call; nothing is averaged before it is kept.
"""

from __future__ import annotations

import gc
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.artifact import Artifact
from lenet_edge.data.dataset import to_input
from lenet_edge.data.test_set import images_for
from lenet_edge.errors import TargetError
from lenet_edge.results import MIN_SAMPLES_P99, Measurement, median_interval
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.target import Images, Session, Target

_MIN_WARMUP_RUNS = 3
_MIN_WARMUP_S = 0.1
_CHECK_EVERY_S = 0.1
_DISTINCT_BATCHES = 16


@dataclass(frozen=True)
class StopRule:
    """When there are enough samples.

    After `min_time_s`, and when p99 may be told, sampling stops as soon as the 95 % confidence
    interval of the median is narrower than `precision` (relative, half-width); at `max_time_s`
    it stops in any case.
    """

    min_time_s: float = 0.3
    max_time_s: float = 5.0
    precision: float = 0.01


def measure(
    artifact: dict[str, Any],
    target: str,
    batch_size: int,
    num_threads: int,
    stop: dict[str, float],
) -> dict[str, Any]:
    """Return the `Measurement` of one cell, as JSON.

    Raises:
        TargetError: the target cannot run the file, or a delegate did not take all of its nodes.
    """
    file, chosen = Artifact.from_json(artifact), get_target(target)
    if file.batch_size not in (None, batch_size):
        raise TargetError(f"{file.name} is fixed to batches of {file.batch_size}, not {batch_size}")
    batches = _batches(file, batch_size)
    started = time.perf_counter()
    with closing(open_session(file, chosen, num_threads)) as session:
        session.prepare(batches[0])  # some runtimes allocate, or compile, only here
        loaded = time.perf_counter()
        session.infer()
        session.logits()
        first = time.perf_counter()
        _demand_delegation(session, chosen)
        warmup_runs = _warm_up(session, batches)
        samples = _sample(session, batches, StopRule(**stop))
        taken = session.delegation
        return Measurement(
            artifact=file.name,
            artifact_sha256=file.sha256,
            size_bytes=file.size_bytes,
            target=target,
            runtime_version=session.runtime_version,
            batch_size=batch_size,
            num_threads=num_threads,
            load_time_s=loaded - started,
            first_inference_s=first - loaded,
            prepare_s=float(np.median(samples[:, 0])),
            readout_s=float(np.median(samples[:, 2])),
            warmup_runs=warmup_runs,
            latencies_s=samples[:, 1],
            peak_rss_bytes=_peak_rss_bytes(),
            delegate=taken.delegate if taken else None,
            nodes_total=taken.nodes_total if taken else None,
            nodes_taken=taken.nodes_taken if taken else None,
        ).to_json()


def _peak_rss_bytes() -> int:
    # Not getrusage: on Linux its maximum survives exec, so a worker would report its parent's.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def _batches(artifact: Artifact, batch_size: int) -> list[Images]:
    images = images_for(artifact, _DISTINCT_BATCHES)
    indexes = np.arange(_DISTINCT_BATCHES * batch_size).reshape(-1, batch_size) % len(images)
    return [np.ascontiguousarray(to_input(images[i], artifact.pixel_scale)) for i in indexes]


def _demand_delegation(session: Session, target: Target) -> None:
    taken = session.delegation
    if taken is not None and taken.nodes_taken < taken.nodes_total:
        raise TargetError(
            f"{taken.delegate} took only {taken.nodes_taken} of {taken.nodes_total} nodes, so"
            f" {target.name} would time something else; use another target for this file"
        )


def _warm_up(session: Session, batches: list[Images]) -> int:
    runs, started = 0, time.perf_counter()
    while runs < _MIN_WARMUP_RUNS or time.perf_counter() - started < _MIN_WARMUP_S:
        session.prepare(batches[runs % len(batches)])
        session.infer()
        session.logits()
        runs += 1
    return runs


def _sample(session: Session, batches: list[Images], stop: StopRule) -> Any:
    """Return the seconds of prepare, infer and logits of each call: float64 of shape (runs, 3)."""
    clock = time.perf_counter_ns
    rows: list[tuple[int, int, int, int]] = []
    started = checked = time.perf_counter()
    gc.collect()
    gc.disable()  # a collection in the middle of a call would be counted as inference
    try:
        while True:
            for batch in batches:
                begin = clock()
                session.prepare(batch)
                ready = clock()
                session.infer()
                done = clock()
                session.logits()
                rows.append((begin, ready, done, clock()))
            now = time.perf_counter()
            if now - checked < _CHECK_EVERY_S:
                continue
            checked = now
            if now - started >= stop.max_time_s or (
                now - started >= stop.min_time_s
                and len(rows) >= MIN_SAMPLES_P99
                and _half_width(rows) <= stop.precision
            ):
                break
    finally:
        gc.enable()
    return np.diff(np.array(rows, np.int64), axis=1) / 1e9


def _half_width(rows: list[tuple[int, int, int, int]]) -> float:
    latencies = np.array([done - ready for _, ready, done, _ in rows], np.float64)
    low, high = median_interval(latencies)
    return (high - low) / 2 / float(np.median(latencies))
