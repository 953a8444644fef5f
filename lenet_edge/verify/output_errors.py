"""Errors of one output of a candidate against the same output of the reference."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

_UNIT_TOLERANCE = 1e-3  # of a probability
_SUM_TOLERANCE = 0.02  # of probabilities, beyond the rounding of 8-bit outputs
_STEP = 1 / 256  # of 8-bit probabilities


@dataclass
class OutputErrors:
    """Sums over all values of an output, from which the figures follow.

    Integers without a scale, such as classes and counts, are compared for equality too. An output
    is a classifier if the last axis of the reference always holds probabilities, or if the caller
    knows that it holds scores of classes.

    Attributes:
        is_integer: whether the output holds integers or booleans that stand for themselves.
        has_scores: whether the last axis is known to hold a score for each class.
        varies: whether the output of the reference differs between the calls.
    """

    is_integer: bool = False
    has_scores: bool = False
    count: int = 0
    non_finite: int = 0
    worst: float = 0.0
    total: float = 0.0
    signal: float = 0.0
    noise: float = 0.0
    power: float = 0.0
    product: float = 0.0
    equal: int = 0
    rows: int = 0
    same_class: int = 0
    is_probability: bool = True
    varies: bool = False
    _first: npt.NDArray[Any] | None = field(default=None, init=False, repr=False)

    def add(self, expected: npt.NDArray[Any], actual: npt.NDArray[Any]) -> None:
        """Add the values of one call.

        Args:
            expected: output of the reference, dequantized.
            actual: output of the candidate, dequantized, of the same shape.
        """
        wanted, found = expected.astype(np.float64), actual.astype(np.float64)
        if self._first is None:
            self._first = wanted
        self.varies |= not np.array_equal(self._first, wanted, equal_nan=True)
        # Masks may hold infinity. Equal values that are not finite are no error.
        finite = np.isfinite(wanted) & np.isfinite(found)
        same = (wanted == found) | (np.isnan(wanted) & np.isnan(found))
        self.non_finite += int((~finite & ~same).sum())
        self.equal += int(same.sum())
        self.count += wanted.size
        self._add_classes(expected, actual)
        wanted, found = wanted[finite], found[finite]
        errors = np.abs(found - wanted)
        self.worst = max(self.worst, float(errors.max(initial=0.0)))
        self.total += float(errors.sum())
        self.signal += float((wanted**2).sum())
        self.noise += float((errors**2).sum())
        self.power += float((found**2).sum())
        self.product += float((wanted * found).sum())

    def _add_classes(self, expected: npt.NDArray[Any], actual: npt.NDArray[Any]) -> None:
        classes = expected.shape[-1] if expected.ndim else 0
        if classes < 2 or self.is_integer or not expected.size:
            self.is_probability = False
            return
        rows, others = expected.reshape(-1, classes), actual.reshape(-1, classes)
        if self.is_probability:
            sums = rows.sum(axis=1, dtype=np.float64)
            tolerance = _SUM_TOLERANCE + classes * _STEP / 2
            self.is_probability = bool(
                np.isfinite(rows).all()
                and rows.min() >= -_UNIT_TOLERANCE
                and rows.max() <= 1 + _UNIT_TOLERANCE
                and (np.abs(sums - 1) <= tolerance).all()
            )
        self.rows += len(rows)
        self.same_class += int((rows.argmax(axis=1) == others.argmax(axis=1)).sum())

    @property
    def is_classifier(self) -> bool:
        """True if the last axis holds a value for each class."""
        return self.rows > 0 and (self.has_scores or self.is_probability)

    @property
    def agreement(self) -> tuple[int, int] | None:
        """The number of equal classes (or integers), and of all; None for real values."""
        if self.is_integer:
            return self.equal, self.count
        return (self.same_class, self.rows) if self.is_classifier else None

    @property
    def mean(self) -> float:
        """The mean absolute error of the finite values."""
        return self.total / max(1, self.count - self.non_finite)

    @property
    def snr_db(self) -> float | None:
        """The signal-to-noise ratio in dB; None without noise or without a signal."""
        if self.noise <= 0 or self.signal <= 0:
            return None
        return 10 * math.log10(self.signal / self.noise)

    @property
    def cosine(self) -> float | None:
        """The cosine of the angle between both outputs; None if one of them is zero."""
        if self.signal <= 0 or self.power <= 0:
            return None
        return max(-1.0, min(1.0, self.product / math.sqrt(self.signal) / math.sqrt(self.power)))
