"""Estimate of a cell's latency from several processes, some of which were disturbed as a whole.

A process may be slow from its start to its end: a neighbour evicts its caches, its core is shared,
its clock is low. Disturbances only add time. The estimate therefore leaves out the processes that
are slower than the fastest ones by a gap, and takes the median of the others.

The latency, its interval, the ratio of two cells and their rank all come from this estimate.
`python -m benchmarks.coverage` measures how often the intervals contain the true value.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lenet_edge.results.stats import Samples, quantile_interval, t_95

# A process is disturbed if it is slower than the next faster one by the gap, or than the fastest
# one by the window. Undisturbed processes of one cell differ by 2 to 6 %.
_GAP, _WINDOW = math.log(1.08), math.log(1.16)
# Spread between undisturbed processes that is assumed before the first one is measured, and the
# number of processes that this assumption is worth. Both were fitted to recorded runs: G. K. Smyth,
# "Linear models and empirical Bayes methods for assessing differential expression", 2004.
_USUAL_SPREAD, _USUAL_WORTH = 0.01, 2
# Error of the median of several values relative to that of their mean; 1.25 for many values.
_MEDIAN_FACTOR = 1.2
_MIN_PAIRS = 3
_SIMILAR = 1.10  # largest ratio of two latencies that are equal for a user


@dataclass(frozen=True)
class LatencyEstimate:
    """Latency in seconds, with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end of the interval."""
        return self.low, self.high

    @property
    def half_width(self) -> float:
        """Half the width of the interval, relative to the latency."""
        return (self.high - self.low) / 2 / self.value if self.value else 0.0


@dataclass(frozen=True)
class LatencyRatio:
    """Quotient of two latencies, with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    @property
    def equal(self) -> bool:
        """True if the interval contains 1, so that neither latency is known to be smaller."""
        return self.low <= 1 <= self.high

    @property
    def tied(self) -> bool:
        """True if the whole interval is within 10 % of 1, so that the latencies are similar."""
        return self.equal and self.high <= _SIMILAR and self.low >= 1 / _SIMILAR

    @property
    def undecided(self) -> bool:
        """True if the interval contains 1, and also differences of more than 10 %."""
        return self.equal and not self.tied


def find_undisturbed(
    medians: Sequence[float], boards: Sequence[Hashable] | None = None, resolution: float = 0.0
) -> npt.NDArray[np.bool_]:
    """Return which processes were not disturbed as a whole, bool of shape (N,).

    Args:
        medians: the median latency of each process in seconds.
        boards: the board of each process. Boards differ in speed, so each has its own fastest one.
        resolution: a difference in seconds that the clock cannot measure.
    """
    values = np.asarray(medians, np.float64)
    groups: dict[Hashable, list[int]] = {}
    for index in range(len(values)):
        groups.setdefault(boards and boards[index], []).append(index)
    kept = np.zeros(len(values), np.bool_)
    for indexes in groups.values():
        order = np.array(indexes)[np.argsort(values[indexes])]
        ordered = values[order]
        gaps = np.diff(ordered) > np.expm1(_GAP) * ordered[:-1] + resolution
        count = int(gaps.argmax()) + 1 if gaps.any() else len(order)
        near = ordered <= math.exp(_WINDOW) * ordered[0] + resolution
        kept[order[:count][near[:count]]] = True
    return kept


def estimate_latency(
    processes: Sequence[Samples],
    kept: npt.NDArray[np.bool_],
    quantile: float | None = 0.5,
) -> LatencyEstimate:
    """Estimate a quantile of the latency from the processes that were not disturbed.

    A single process does not show the spread between processes: its interval covers its calls only.
    If only one of several processes is left, it may be disturbed or fast by chance. The interval
    then reaches to the next process.

    Args:
        processes: samples of each process, float64 of shape (N,).
        kept: the result of `find_undisturbed`.
        quantile: 0 to 1, or None for the mean.
    """
    values = process_latencies(processes, quantile)
    chosen = values[kept]
    value = float(np.median(chosen))
    if len(values) == 1:
        low, high = _interval_of_calls(processes[0], quantile)
        return LatencyEstimate(value, min(low, value), max(high, value))
    calls = [s for s, is_kept in zip(processes, kept, strict=True) if is_kept]
    half = _half_width(_logs(chosen), _USUAL_SPREAD**2 + _error_of_calls(calls, quantile) ** 2)
    low, high = value * math.exp(-half), value * math.exp(half)
    if len(chosen) == 1:
        high = max(high, float(values[~kept].min()))
    return LatencyEstimate(value, low, high)


def latency_ratio(
    numerator: LatencyEstimate,
    denominator: LatencyEstimate,
    pairs: Sequence[tuple[float, float]] = (),
    resolution: float = 0.0,
) -> LatencyRatio:
    """Return the quotient of two estimates.

    Two intervals are computed, and the narrower one counts. The first comes from the intervals of
    the two estimates. The second comes from pairs of processes of one round, in which a slow phase
    of the machine cancels.

    Args:
        numerator: the estimate of the latency to divide.
        denominator: the estimate of the latency to divide by.
        pairs: the latencies of both cells in each round that they share.
        resolution: relative precision of the samples. It widens the interval.

    Source: A. Donner, G. Y. Zou, "Closed-form confidence intervals for functions of the normal mean
    and standard deviation", 2012 (recovery of variances from the limits).
    """
    (top, top_low, top_high), (bottom, bottom_low, bottom_high) = (
        _logs((e.value, e.low, e.high)).tolist() for e in (numerator, denominator)
    )
    middle = top - bottom
    low = middle - math.hypot(top - top_low, bottom_high - bottom)
    high = middle + math.hypot(top_high - top, bottom - bottom_low)
    if len(pairs) >= _MIN_PAIRS:
        first, second = np.array(pairs, np.float64).T
        differences = _logs(first) - _logs(second)
        half, centre = _half_width(differences, 2 * _USUAL_SPREAD**2), float(np.median(differences))
        if 2 * half < high - low:
            low, high = min(middle, centre - half), max(middle, centre + half)
    margin = math.log1p(resolution)
    return LatencyRatio(math.exp(middle), math.exp(low - margin), math.exp(high + margin))


def process_latencies(processes: Sequence[Samples], quantile: float | None) -> Samples:
    """Return a quantile of each process's samples, or their mean if `quantile` is None."""
    return np.array(
        [np.mean(s) if quantile is None else np.quantile(s, quantile) for s in processes],
        np.float64,
    )


def _half_width(logs: Samples, usual_variance: float) -> float:
    """Return half the width of the 95 % interval of the median of some logarithms.

    The usual variance between processes stabilizes the variance of a few values.
    """
    count, worth = len(logs), _USUAL_WORTH
    own = float(logs.var(ddof=1)) if count > 1 else 0.0
    freedom = worth + count - 1
    variance = (worth * usual_variance + (count - 1) * own) / freedom
    factor = _MEDIAN_FACTOR if count > 2 else 1.0
    return factor * t_95(freedom) * math.sqrt(variance / count)


def _interval_of_calls(samples: Samples, quantile: float | None) -> tuple[float, float]:
    """Return the 95 % interval of a quantile or of the mean, over the calls of one process."""
    if quantile is not None:
        return quantile_interval(samples, quantile)
    mean, half = float(samples.mean()), 1.96 * float(samples.std()) / math.sqrt(len(samples))
    return max(mean - half, 0.0), mean + half


def _error_of_calls(processes: Sequence[Samples], quantile: float | None) -> float:
    """Return the relative standard error that the calls of a typical process leave."""
    intervals = [_logs(_interval_of_calls(samples, quantile)) for samples in processes]
    return float(np.median([high - low for low, high in intervals])) / 2 / 1.96


def _logs(latencies: Samples | Sequence[float]) -> Samples:
    # The clock may measure 0 s for a call that does nothing, and 0 has no logarithm.
    logs: Samples = np.log(np.maximum(latencies, 1e-9))
    return logs
