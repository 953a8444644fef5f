"""Coverage of the intervals beside disturbed processes: ``python -m benchmarks.coverage``

Draws the median latencies of the processes of a cell from a model of the noise, and estimates the
latency in four ways. For each way it prints how often the 95 % interval contains the true latency,
and the median of its half-width. The seed is fixed, so every run prints the same table.

The spread between undisturbed processes differs from cell to cell: 0.8 % times the square root of
an inverse chi-square variable, as in recorded runs of a quiet machine.
"""

import statistics
from collections.abc import Callable

import numpy as np

from lenet_edge.results.latency_estimate import (
    LatencyEstimate,
    LatencyRatio,
    estimate_latency,
    find_undisturbed,
    latency_ratio,
)
from lenet_edge.results.stats import Samples, t_95

TRIES = 1000
CALLS = 25
Estimator = Callable[[list[Samples]], LatencyEstimate]


def one_third_slow(random: np.random.Generator, count: int) -> Samples:
    return np.where(random.random(count) < 1 / 3, 1.4, 1.0)


def one_third_any(random: np.random.Generator, count: int) -> Samples:
    slow = random.random(count) < 1 / 3
    return np.exp(slow * random.exponential(0.3, count))


def half_a_little(random: np.random.Generator, count: int) -> Samples:
    slow = random.random(count) < 1 / 2
    return np.exp(slow * random.exponential(0.05, count))


NOISE: dict[str, Callable[[np.random.Generator, int], Samples]] = {
    "quiet": lambda random, count: np.ones(count),
    "1 of 3 slower by 40 %": one_third_slow,
    "1 of 3 slower, 35 % on average": one_third_any,
    "1 of 2 slower, 5 % on average": half_a_little,
}


def draw(random: np.random.Generator, count: int, noise: str) -> list[Samples]:
    spread = min(0.008 * float(np.sqrt(2 / random.chisquare(2))), 0.08)
    medians = NOISE[noise](random, count) * np.exp(random.normal(0, spread, count))
    return [median * np.exp(random.normal(0, 0.002, CALLS)) for median in medians]


def from_undisturbed(processes: list[Samples]) -> LatencyEstimate:
    kept = find_undisturbed([float(np.median(samples)) for samples in processes])
    return estimate_latency(processes, kept)


def student(processes: list[Samples]) -> LatencyEstimate:
    logs = np.log([np.median(samples) for samples in processes])
    half = t_95(len(logs) - 1) * float(logs.std(ddof=1)) / np.sqrt(len(logs))
    middle = float(logs.mean())
    return LatencyEstimate(*np.exp([middle, middle - half, middle + half]).tolist())


def order_statistics(processes: list[Samples]) -> LatencyEstimate:
    medians = np.sort([np.median(samples) for samples in processes])
    cut = 0 if len(medians) < 8 else 1 if len(medians) < 11 else 2
    return LatencyEstimate(float(np.median(medians)), float(medians[cut]), float(medians[-1 - cut]))


def minimum(processes: list[Samples]) -> LatencyEstimate:
    first, second, *_ = np.sort([np.median(samples) for samples in processes]).tolist()
    return LatencyEstimate(first, first * 0.98, second)


ESTIMATORS: dict[str, Estimator] = {
    "estimate": from_undisturbed,
    "Student's t": student,
    "median, range": order_statistics,
    "minimum": minimum,
}


def main() -> None:
    random = np.random.default_rng(0)
    print(f"{'noise':32} processes" + "".join(f"{name:>16}" for name in ESTIMATORS))
    for noise in NOISE:
        for count in (3, 5, 8, 12):
            cells = [draw(random, count, noise) for _ in range(TRIES)]
            columns = []
            for estimator in ESTIMATORS.values():
                estimates = [estimator(cell) for cell in cells]
                covered = sum(e.low <= 1 <= e.high for e in estimates) / TRIES
                width = statistics.median(e.half_width for e in estimates)
                columns.append(f"{covered:.0%} ± {width:.1%}")
            print(f"{noise:32} {count:9}" + "".join(f"{column:>16}" for column in columns))
    print(f"\n{'ratio of two cells, noise':32} processes   equal cells tie   10 % apart is seen")
    for noise in NOISE:
        for count in (3, 5, 8):
            tied = seen = 0
            for _ in range(TRIES):
                first, second = (draw(random, count, noise) for _ in range(2))
                slower = [1.1 * samples for samples in first]
                tied += ratio_of(first, second).equal
                seen += not ratio_of(slower, second).equal
            print(f"{noise:32} {count:9} {tied / TRIES:17.0%} {seen / TRIES:20.0%}")


def ratio_of(first: list[Samples], second: list[Samples]) -> LatencyRatio:
    pairs = [(float(np.median(a)), float(np.median(b))) for a, b in zip(first, second, strict=True)]
    return latency_ratio(from_undisturbed(first), from_undisturbed(second), pairs, resolution=0.01)


if __name__ == "__main__":
    main()
