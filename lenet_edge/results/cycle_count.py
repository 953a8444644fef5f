"""Cycles that a real board counted for the inferences of one file.

They are those of the network alone, without the serial line. They are not ranked with latencies.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lenet_edge.support import typed_json


@dataclass(frozen=True)
class CycleCount:
    """The counts of one file on one board.

    Attributes:
        artifact: name of the file.
        artifact_sha256: hash of the file.
        target: name of the target, such as serial:/dev/ttyACM0.
        unit: what the board's counter counts, such as "processor cycles (DWT CYCCNT)".
        counter_hz: frequency of the counter; None if the board does not know it.
        images: number of inferences.
        median, minimum, maximum: the counts of one inference.
        lower_quartile, upper_quartile: half of the inferences are between them.
    """

    artifact: str
    artifact_sha256: str
    target: str
    unit: str
    counter_hz: int | None
    images: int
    median: float
    minimum: float
    maximum: float
    lower_quartile: float
    upper_quartile: float

    @classmethod
    def of_samples(
        cls,
        artifact: str,
        artifact_sha256: str,
        target: str,
        unit: str,
        counter_hz: int | None,
        counts: Sequence[int],
    ) -> CycleCount:
        """Return the statistics of the counts of single inferences."""
        quantiles = np.quantile(counts, [0.5, 0, 1, 0.25, 0.75]).tolist()
        return cls(artifact, artifact_sha256, target, unit, counter_hz, len(counts), *quantiles)

    @property
    def key(self) -> tuple[str, str]:
        """File and target, which identify the counts in a run."""
        return self.artifact, self.target

    @property
    def median_s(self) -> float | None:
        """The median in seconds, if the frequency of the counter is known."""
        return None if self.counter_hz is None else self.median / self.counter_hz

    def to_json(self) -> dict[str, Any]:
        """Return the counts as a JSON object."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> CycleCount:
        """Return the counts that `to_json` wrote.

        Raises:
            ValueError: a value has a wrong type or is impossible.
        """
        count = cls(**facts)
        typed_json.check_types(count)
        in_order = (count.minimum, count.lower_quartile, count.median, count.upper_quartile,
                    count.maximum)  # fmt: skip
        is_possible = all(map(math.isfinite, in_order)) and list(in_order) == sorted(in_order)
        if count.images < 1 or not is_possible or count.minimum < 0 or count.counter_hz == 0:
            raise ValueError(f"{count.artifact} has cycles that are impossible")
        return count
