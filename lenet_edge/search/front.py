"""Pareto front of accuracy and costs, and the candidates that the search continues."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Score(NamedTuple):
    """The objectives of a network: accuracy, and the costs bytes and instructions."""

    accuracy: float
    num_bytes: float
    instructions: float

    def dominates(self, other: Score) -> bool:
        """Tell whether this score is nowhere worse than another, and better in one objective."""
        return (
            self != other
            and self.accuracy >= other.accuracy
            and self.num_bytes <= other.num_bytes
            and self.instructions <= other.instructions
        )


def front_of(scores: Sequence[Score]) -> list[int]:
    """Return the indices of the scores that no other dominates."""
    return [
        index
        for index, score in enumerate(scores)
        if not any(other.dominates(score) for other in scores)
    ]


def choose_best(scores: Sequence[Score], count: int) -> list[int]:
    """Return the indices of the best scores: by front, and within a front by accuracy.

    Source: R. Schmucker et al., "Multi-objective asynchronous successive halving", 2021.
    """
    chosen: list[int] = []
    rest = list(range(len(scores)))
    while rest and len(chosen) < count:
        front = [rest[index] for index in front_of([scores[index] for index in rest])]
        chosen += sorted(front, key=lambda index: -scores[index].accuracy)
        rest = [index for index in rest if index not in front]
    return sorted(chosen[:count])
