"""Compare files fairly: all open in one process, called in turn, and that in several processes.

What disturbs the machine then disturbs all of them alike, and the ratio of two neighbouring calls
is steadier than either. An untimed call of the same file comes before each timed one, so that no
file pays for the caches that another one filled.
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
from lenet_edge.inspection.delegation import prove
from lenet_edge.results.stats import median_interval
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.selection import Pair

# The range of 6 independent medians holds the true one with a confidence of 1 - 2 / 2**6 = 97 %.
NUM_PROCESSES = 6
ROUNDS = 2000
_WARMUP_ROUNDS = 50


@dataclass(frozen=True)
class Ratio:
    """A file's latency over that of the first: the median of the processes, and its interval.

    That holds the true one with a confidence of 95 %; of 6 processes it is the whole range.
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
) -> list[Ratio]:
    """Return the latency of each pair relative to the first.

    Args:
        pairs: files on targets; the first is what the others are compared with.
        batch_size: images in one inference.
        num_threads: threads for one inference.
        rounds: calls of each file in each process.
        num_processes: fresh processes, one after the other.

    Raises:
        LenetEdgeError: one of them cannot run.
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


def ratios(runs: Sequence[npt.NDArray[np.float64]]) -> list[Ratio]:
    """Return the ratios of interleaved samples.

    Args:
        runs: for each process the seconds, of shape (files, rounds).
    """
    found = []
    for index in range(len(runs[0])):
        medians = [float(np.median(run[index] / run[0])) for run in runs]
        p50_s = float(np.median([np.median(run[index]) for run in runs]))
        found.append(Ratio(float(np.median(medians)), *median_interval(np.array(medians)), p50_s))
    return found


@worker.function
def sample(
    files: list[tuple[Path, str]], batch_size: int, num_threads: int, rounds: int, seed: int
) -> list[list[float]]:
    """Return the seconds of `infer`, for each file and round; called in a fresh process."""
    clock = time.perf_counter_ns
    samples = np.empty((len(files), rounds), np.int64)
    with ExitStack() as stack:
        opened = []
        for path, target in files:
            artifact, chosen = load_artifact(path), get_target(target)
            session = stack.enter_context(closing(open_session(artifact, chosen, num_threads)))
            batches = make_batches(artifact, batch_size)
            session.prepare(batches[0])
            prove(session, artifact, chosen)
            opened.append((session, batches))
        # Another order in each process, so that no file always follows the same one.
        order = np.random.default_rng(seed).permutation(len(opened)).tolist()
        gc.disable()
        for number in range(-_WARMUP_ROUNDS, rounds):
            for index in order:
                session, images = opened[index]
                session.prepare(images[number % len(images)])
                session.infer()  # untimed: the weights come back to where a steady run has them
                begin = clock()
                session.infer()
                samples[index, max(number, 0)] = clock() - begin
                session.logits()
        gc.enable()
    seconds: list[list[float]] = (samples / 1e9).tolist()
    return seconds
