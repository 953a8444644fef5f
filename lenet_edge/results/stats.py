"""What samples say, and how surely: intervals of quantiles and ratios, outliers, two modes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float64]

# Student's t, two-sided 95 %, by degrees of freedom; source: NIST/SEMATECH e-Handbook, 1.3.6.7.2.
_T_95 = {
    1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262,
    10: 2.228, 12: 2.179, 15: 2.131, 20: 2.086, 30: 2.042, 60: 2.000, math.inf: 1.960,
}  # fmt: skip


def t_95(degrees_of_freedom: float) -> float:
    """Return Student's t that holds 95 % between -t and t; between table rows, linear in 1/df."""
    inverse = [1 / df for df in _T_95]
    at = 1 / max(degrees_of_freedom, 1)
    return float(np.interp(at, inverse[::-1], list(_T_95.values())[::-1]))


def quantile_interval(samples: Samples, quantile: float) -> tuple[float, float]:
    """Return the 95 % confidence interval of a quantile, by order statistics.

    Args:
        samples: float64 of shape (N,), taken to be independent.
        quantile: 0 to 1.

    Source: W. J. Conover, "Practical Nonparametric Statistics", 3rd ed., section 3.2.
    """
    count = len(samples)
    spread = 1.96 * math.sqrt(count * quantile * (1 - quantile))
    low = max(math.floor(count * quantile - spread) - 1, 0)
    high = min(math.ceil(count * quantile + spread), count - 1)
    ordered = np.partition(samples, (low, high))
    return float(ordered[low]), float(ordered[high])


def median_interval(samples: Samples) -> tuple[float, float]:
    """Return the 95 % confidence interval of the median, by order statistics."""
    return quantile_interval(samples, 0.5)


def pooled_median_interval(processes: Sequence[Samples]) -> tuple[float, float]:
    """Return the 95 % confidence interval of the median of samples from several processes.

    Samples of one process share its memory layout and its moment, so that they understate what
    another process would find. From two processes on the interval is also at least as wide as
    Student's for the logarithms of the processes' medians.
    """
    low, high = median_interval(np.concatenate(processes))
    if len(processes) > 1:
        middle, error = _log(processes, 0.5)
        half = t_95(len(processes) - 1) * error
        low, high = min(low, math.exp(middle - half)), max(high, math.exp(middle + half))
    return low, high


@dataclass(frozen=True)
class LatencyRatio:
    """How many times one latency is another, with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    @property
    def equal(self) -> bool:
        """Whether the interval contains 1: neither is shown to be the faster."""
        return self.low <= 1 <= self.high


def ratio(
    one: Sequence[Samples],
    other: Sequence[Samples],
    paired: bool = False,
    resolution: float = 0.0,
    quantile: float | None = 0.5,
) -> LatencyRatio:
    """Return a quantile of `one` over that of `other`.

    Args:
        one: the samples of each of its processes.
        other: those of what it is compared with.
        paired: process i of both ran in the same round, so that drift cancels.
        resolution: the relative precision that the samples were asked for. It widens the
            interval, because no process sees what its neighbours in time have in common.
        quantile: 0 to 1, or None for the mean.

    Source: B. L. Welch, "The generalization of Student's problem when several different
    population variances are involved", Biometrika 34, 1947; Student's paired test.
    """
    (middle_1, error_1), (middle_2, error_2) = (_log(one, quantile), _log(other, quantile))
    error = math.hypot(error_1, error_2)
    if min(len(one), len(other)) < 2:
        half = 1.96 * error
    elif paired and len(one) == len(other):
        differences = _logs(one, quantile) - _logs(other, quantile)
        count = len(differences)
        half = t_95(count - 1) * float(np.std(differences, ddof=1)) / math.sqrt(count)
    else:
        shares = (error_1**4 / (len(one) - 1)) + (error_2**4 / (len(other) - 1))
        half = t_95(error**4 / shares) * error if shares else 0.0
    middle = middle_1 - middle_2
    half += math.log1p(resolution)
    return LatencyRatio(math.exp(middle), math.exp(middle - half), math.exp(middle + half))


def _logs(processes: Sequence[Samples], quantile: float | None) -> Samples:
    found = [np.mean(s) if quantile is None else np.quantile(s, quantile) for s in processes]
    # A clock may read 0 for a call that does nothing, and 0 has no logarithm.
    logs: Samples = np.log(np.maximum(found, 1e-9))
    return logs


def _log(processes: Sequence[Samples], quantile: float | None) -> tuple[float, float]:
    """Return the mean of the logarithms of the processes' quantiles, and its standard error."""
    logs = _logs(processes, quantile)
    if len(logs) > 1:
        return float(logs.mean()), float(logs.std(ddof=1)) / math.sqrt(len(logs))
    samples = processes[0]
    if quantile is None:
        return float(logs[0]), float(samples.std() / samples.mean()) / math.sqrt(len(samples))
    low, high = np.log(np.maximum(quantile_interval(samples, quantile), 1e-9))
    return float(logs[0]), float(high - low) / 2 / 1.96


def count_outliers(samples: Samples) -> int:
    """Return how many samples lie above the third quartile by more than 1.5 times the middle half.

    Source: J. W. Tukey, "Exploratory Data Analysis", 1977: the inner fence.
    """
    first, third = np.percentile(samples, (25, 75))
    return int(np.count_nonzero(samples > third + 1.5 * (third - first)))


def two_modes(samples: Samples) -> tuple[float, float] | None:
    """Return the two latencies that samples gather at, or None where they gather at one.

    Two modes are two peaks of the histogram (without the slowest twentieth) at least 5 % apart,
    each with a tenth of the samples, and between them a valley under half of the lower peak.
    """
    if len(samples) < 100:
        return None
    low, high = np.percentile(samples, (0.5, 95))
    if high <= low * 1.05:
        return None
    counts, edges = np.histogram(samples, bins=30, range=(low, high))
    smooth = np.convolve(counts, (0.25, 0.5, 0.25), mode="same")
    centres = (edges[:-1] + edges[1:]) / 2
    first = int(smooth.argmax())
    for second in np.argsort(-smooth):
        left, right = sorted((first, int(second)))
        if right - left < 3 or centres[right] < centres[left] * 1.05:
            continue
        valley = left + int(smooth[left : right + 1].argmin())
        share = counts[:valley].sum() / counts.sum()
        if smooth[valley] < smooth[second] / 2 and 0.1 <= share <= 0.9:
            return float(centres[left]), float(centres[right])
    return None
