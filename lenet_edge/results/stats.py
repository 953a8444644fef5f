"""Statistics of latency samples and of predictions.

Of samples: intervals of quantiles, outliers, modes. Of predictions: significance of a
difference in accuracy, agreement by chance.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float64]

# Student's t, two-sided 95 %, by degrees of freedom; source: NIST/SEMATECH e-Handbook, 1.3.6.7.2.
_T_95 = {
    1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262,
    10: 2.228, 12: 2.179, 15: 2.131, 20: 2.086, 30: 2.042, 60: 2.000, math.inf: 1.960,
}  # fmt: skip


def t_95(degrees_of_freedom: float) -> float:
    """Return the t for which Student's distribution has 95 % between -t and t.

    Between the rows of the table the result is interpolated, linear in 1 / degrees_of_freedom.
    """
    inverse = [1 / df for df in _T_95]
    wanted = 1 / max(degrees_of_freedom, 1)
    return float(np.interp(wanted, inverse[::-1], list(_T_95.values())[::-1]))


def quantile_interval(samples: Samples, quantile: float) -> tuple[float, float]:
    """Return the 95 % confidence interval of a quantile, by order statistics.

    Args:
        samples: float64 of shape (N,), assumed to be independent.
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


def count_outliers(samples: Samples) -> int:
    """Return the number of samples above the third quartile plus 1.5 interquartile ranges.

    Source: J. W. Tukey, "Exploratory Data Analysis", 1977: the inner fence.
    """
    first, third = np.percentile(samples, (25, 75))
    return int(np.count_nonzero(samples > third + 1.5 * (third - first)))


def two_modes(samples: Samples) -> tuple[float, float] | None:
    """Return the latencies of two modes of the samples, or None if there is only one mode.

    The histogram leaves out the slowest 5 % of the samples. Two of its peaks are modes under
    three conditions:
      - They are at least 5 % apart.
      - Each has at least a tenth of the samples on its side.
      - The valley between them is lower than half of the lower peak.
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


def mcnemar_p(only_first_right: int, only_second_right: int) -> float:
    """Compute the two-sided p-value of McNemar's exact test for two classifiers.

    Args:
        only_first_right: number of images that only the first classifier predicts correctly.
        only_second_right: number of images that only the second predicts correctly.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated
    proportions or percentages", Psychometrika 12, 1947; the exact (binomial) form.
    """
    discordant = only_first_right + only_second_right
    tail = sum(
        math.comb(discordant, k) for k in range(min(only_first_right, only_second_right) + 1)
    )
    return min(1.0, 2 * tail / (1 << discordant))


def chance_agreement(
    first: npt.NDArray[np.int64], second: npt.NDArray[np.int64], num_classes: int
) -> float:
    """Return the share of images on which two unrelated models with these predictions agree.

    Args:
        first: the predicted class of each image, -1 for none.
        second: those of the other model.
        num_classes: the number of classes.
    """
    if not len(first):
        return 0.0
    # A 32-bit board counts with 32 bits: it takes no wider indices, and products could overflow.
    shares = [
        np.bincount(classes[classes >= 0].astype(np.intp), minlength=num_classes) / len(classes)
        for classes in (first, second)
    ]
    return float(shares[0] @ shares[1])


def exceeds_chance(share: float, chance: float, count: int) -> bool:
    """Return True if a share of images is over that of chance by more than three deviations."""
    return share > chance + 3 * math.sqrt(chance * (1 - chance) / count)
