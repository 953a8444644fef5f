"""Mixes of float and int8 layers, as `tune` compares them, and the result of `tune`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.artifacts.head import Head
from lenet_edge.bench.interleave import InterleavedRatio
from lenet_edge.machine.environment import Environment
from lenet_edge.target import Logits
from lenet_edge.verify.parity import compare_logits

SCHEMA_VERSION = 1
MAX_DROP = 0.05  # percentage points of accuracy
MIN_AGREEMENT = 0.999


@dataclass(frozen=True)
class MixParity:
    """Accuracy of a mix and its difference from the float model; see `ParityReport`."""

    accuracy: float
    accuracy_drop: float
    top1_agreement: float
    non_finite: int

    @classmethod
    def of(
        cls,
        reference: Logits,
        logits: Logits,
        labels: npt.NDArray[np.int32],
        head: Head | None = None,
    ) -> MixParity:
        """Compare the logits of a mix with those of the float model on the same images.

        Args:
            reference: logits of the float model, of shape (images, classes).
            logits: logits of the mix, of the same shape.
            labels: class index of each image.
            head: the meaning of the logits, if the files state it.
        """
        comparison = compare_logits(reference, logits, labels, (), head, head)
        return cls(
            comparison["candidate_accuracy"],
            comparison["accuracy_drop"],
            comparison["top1_agreement"],
            comparison["non_finite"],
        )

    def to_json(self) -> dict[str, float]:
        """Return the fields that the result file of `tune` holds."""
        return {
            "accuracy": self.accuracy,
            "accuracy_drop": self.accuracy_drop,
            "top1_agreement": self.top1_agreement,
        }


@dataclass(frozen=True)
class Mix:
    """A file with the precision of each layer, its parity and its relative latency.

    Attributes:
        artifact: the file.
        precisions: the precision of each layer by the layer's name; empty for the float32 file.
        parity: the comparison with the float model on the held-out images.
        ratio: the latency divided by that of the float32 file; None before the measurement.
        on_front: whether the file is on the Pareto front of accuracy, latency and size.
    """

    artifact: Artifact
    precisions: dict[str, str]
    parity: MixParity
    ratio: InterleavedRatio | None = None
    on_front: bool = False

    @property
    def passed(self) -> bool:
        """True if the mix agrees with the float model well enough to be chosen."""
        return (
            self.parity.accuracy_drop <= MAX_DROP
            and self.parity.top1_agreement >= MIN_AGREEMENT
            and self.parity.non_finite == 0
        )

    @property
    def relative_latency(self) -> float:
        """The median latency divided by that of the float32 file."""
        assert self.ratio is not None
        return self.ratio.median

    @property
    def costs(self) -> tuple[float, float, int]:
        """Accuracy drop, relative latency and size; smaller is better."""
        return self.parity.accuracy_drop, self.relative_latency, self.artifact.size_bytes


def mark_front(mixes: Sequence[Mix]) -> list[Mix]:
    """Return the mixes with `on_front` set.

    A mix is on the Pareto front if no other mix is at least as good in accuracy, latency and size,
    and better in one of them.
    """
    all_costs = [mix.costs for mix in mixes]

    def is_dominated(costs: tuple[float, float, int]) -> bool:
        return any(
            other != costs and all(a <= b for a, b in zip(other, costs, strict=True))
            for other in all_costs
        )

    return [dataclasses.replace(mix, on_front=not is_dominated(mix.costs)) for mix in mixes]


@dataclass(frozen=True)
class TuneResult:
    """Result of `tune`.

    Attributes:
        finalists: the float32 file and the mixes that were measured at length.
        num_tried: number of files that were compared with the float model.
        num_held_out: number of images that the mixes were compared on.
        winner: the file that `tune` wrote.
        chosen: the finalist that the winner is a copy of.
        test: the parity of the winner on the test images.
        target: name of the target that ran the files.
        environment: the machine and its software.
    """

    finalists: tuple[Mix, ...]
    num_tried: int
    num_held_out: int
    winner: Artifact
    chosen: Mix
    test: MixParity
    target: str
    environment: Environment

    def to_json(self) -> dict[str, Any]:
        """Return the result as objects that JSON can represent."""
        return {
            "schema_version": SCHEMA_VERSION,
            "environment": dataclasses.asdict(self.environment),
            "target": self.target,
            "batch_size": 1,
            "num_threads": 1,
            "num_tried": self.num_tried,
            "num_held_out": self.num_held_out,
            "candidates": [
                {
                    "name": mix.artifact.name,
                    "precisions": mix.precisions,
                    "settings": mix.artifact.settings,
                    "size_bytes": mix.artifact.size_bytes,
                    "sha256": mix.artifact.sha256,
                    "on_front": mix.on_front,
                    "ratio_to_float32": mix.ratio and dataclasses.asdict(mix.ratio),
                    **mix.parity.to_json(),
                }
                for mix in self.finalists
            ],
            "winner": {
                "file": self.winner.name,
                "candidate": self.chosen.artifact.name,
                "sha256": self.winner.sha256,
                "test": self.test.to_json(),
            },
        }
