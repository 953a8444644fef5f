"""Comparison of artifacts by interleaved calls: one process opens all and calls them in turn.

A disturbance of the machine then affects all artifacts alike, and the ratio of two neighbouring
calls is steadier than each latency. An untimed call of the same artifact precedes each timed one,
because the previous artifact has filled the caches. Several processes repeat this.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lenet_edge import worker
from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.bench.timing import make_batches
from lenet_edge.inspection.delegation import checked_delegation
from lenet_edge.results.stats import median_interval
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.selection import Pair

# The range of 6 independent medians contains the true median with a confidence of
# 1 - 2 / 2**6 = 97 %.
NUM_PROCESSES = 6
ROUNDS = 2000
_WARMUP_ROUNDS = 50


@dataclass(frozen=True)
class InterleavedRatio:
    """Latency of an artifact over that of the first one.

    Attributes:
        median: the median over the processes.
        low: the lower end of its 95 % confidence interval; of 6 processes, the minimum.
        high: the upper end.
        p50_s: the median latency of one call in seconds.
    """

    median: float
    low: float
    high: float
    p50_s: float


def compare(
    pairs: Sequence[Pair],
    batch_size: int = 1,
    num_threads: int = 1,
    rounds: int = ROUNDS,
    num_processes: int = NUM_PROCESSES,
) -> list[InterleavedRatio]:
    """Measure the latency of each pair relative to the first pair.

    Args:
        pairs: the pairs.
        batch_size: images in one inference.
        num_threads: threads for one inference.
        rounds: calls of each pair in each process.
        num_processes: number of fresh processes; they run one after the other.

    Raises:
        LenetEdgeError: a pair cannot run.
    """
    runs = []
    for number in range(num_processes):
        seconds = worker.run(
            sample.bind(
                files=[(pair.artifact.path, pair.target.name) for pair in pairs],
                batch_size=batch_size,
                num_threads=num_threads,
                rounds=rounds,
                seed=number,
            )
        )
        runs.append(np.array(seconds))
    return ratios(runs)


def ratios(runs: Sequence[npt.NDArray[np.float64]]) -> list[InterleavedRatio]:
    """Return the ratios of interleaved samples.

    Args:
        runs: the seconds of each process, float64 of shape (artifacts, rounds).
    """
    result = []
    for index in range(len(runs[0])):
        medians = [float(np.median(run[index] / run[0])) for run in runs]
        p50_s = float(np.median([np.median(run[index]) for run in runs]))
        low, high = median_interval(np.array(medians))
        result.append(InterleavedRatio(float(np.median(medians)), low, high, p50_s))
    return result


@worker.function
def sample(
    files: list[tuple[Path, str]], batch_size: int, num_threads: int, rounds: int, seed: int
) -> list[list[float]]:
    """Measure interleaved calls in this process.

    Args:
        files: the path of each artifact and the name of its target.
        batch_size: images in one inference.
        num_threads: threads for one inference.
        rounds: calls of each artifact.
        seed: the seed of the order of the artifacts.

    Returns:
        The seconds of `infer`, for each artifact and round.
    """
    clock = time.perf_counter_ns
    samples = np.empty((len(files), rounds), np.int64)
    with ExitStack() as stack:
        opened = []
        for path, target in files:
            artifact, chosen = load_artifact(path), get_target(target)
            session = stack.enter_context(closing(open_session(artifact, chosen, num_threads)))
            batches = make_batches(artifact, batch_size)
            session.prepare(batches[0])
            checked_delegation(session, artifact, chosen)
            opened.append((session, batches))
        # The order differs between processes, so that no artifact always follows the same one.
        order = np.random.default_rng(seed).permutation(len(opened)).tolist()
        gc.disable()
        for number in range(-_WARMUP_ROUNDS, rounds):
            for index in order:
                session, images = opened[index]
                session.prepare(images[number % len(images)])
                session.infer()  # untimed: fills the caches as in a steady run
                begin = clock()
                session.infer()
                samples[index, max(number, 0)] = clock() - begin
                session.logits()
        gc.enable()
    seconds: list[list[float]] = (samples / 1e9).tolist()
    return seconds
