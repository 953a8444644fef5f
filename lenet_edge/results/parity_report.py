"""Whether a file on a target is still right, as plain data.

ParityReport            of one file on one target
├── Bounds              what it was held to
├── Flip *              the images whose predicted class changed
├── ClassCount *        each class by itself
└── LayerError *        where the file loses what it loses
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from lenet_edge.target import Delegation


@dataclass(frozen=True)
class Flip:
    """A test image whose predicted class the candidate changed.

    `label` is None where it is not known; `now` is -1 where the answer is no number. The
    confidences are the softmax probabilities of `was` and `now`, each by the model that chose it.
    """

    index: int
    label: int | None
    was: int
    now: int
    was_confidence: float | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class ClassCount:
    """How many images of one class there are, and how many each model gets right."""

    name: str
    num_samples: int
    reference_right: int
    candidate_right: int


@dataclass(frozen=True)
class LayerError:
    """What one layer of a quantized file does to the values of its float sibling.

    `sqnr_db` is the signal-to-quantization-noise ratio of the layer's output, and `lost_db` how
    much of it was lost in this very layer; None stands for no noise at all. `saturation` is the
    share of values outside the `range` that the layer can hold; `seen` is the range of the values.
    """

    name: str
    kind: str
    sqnr_db: float | None
    lost_db: float
    max_abs_error: float
    saturation: float
    range: tuple[float, float] | None
    seen: tuple[float, float]
    hint: str = ""


@dataclass(frozen=True)
class Bounds:
    """What a file may lose and still pass; None is not looked at.

    `max_accuracy_drop` is in percentage points, `min_agreement` in percent of the images,
    `max_abs_error` in units of the logits.
    """

    max_accuracy_drop: float | None = None
    min_agreement: float | None = None
    max_abs_error: float | None = None


@dataclass(frozen=True)
class ParityReport:
    """Whether a file on a target still answers as the float model, or another file, does.

    `verdict` is "pass", "fail" or "inconclusive" (too few images to tell), and `reasons` say why
    in words. Accuracies and agreement are fractions of `num_samples`; `accuracy_drop` is in
    percentage points, positive where the candidate is worse. What needs labels is None without
    them. Errors are in units of the logits; `non_finite` counts images answered with NaN or
    infinity. `confusion` counts images by (label, predicted class), left out above 100 classes.
    Confidences are means over the images of the winning class's probability; `confidence_drift` is
    the mean absolute change of it. `diagnosis` says what is wrong with the input, where that is it.
    """

    reference: str
    candidate: str
    candidate_sha256: str
    target: str
    num_samples: int
    reference_accuracy: float | None
    candidate_accuracy: float | None
    accuracy_drop: float | None
    top1_agreement: float
    flips: tuple[Flip, ...]
    mcnemar_p: float | None
    max_abs_error: float
    mean_abs_error: float
    non_finite: int
    verdict: str
    reasons: tuple[str, ...] = ()
    bounds: Bounds = Bounds()
    per_class: tuple[ClassCount, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    reference_confidence: float | None = None
    candidate_confidence: float | None = None
    confidence_drift: float | None = None
    diagnosis: str | None = None
    layers: tuple[LayerError, ...] = ()
    delegation: Delegation | None = None

    def __bool__(self) -> bool:
        return self.passed

    @property
    def passed(self) -> bool:
        """Whether the verdict is "pass"."""
        return self.verdict == "pass"

    @property
    def accuracy_interval(self) -> tuple[float, float] | None:
        """95 % confidence interval of the candidate's accuracy; None without labels."""
        if self.candidate_accuracy is None:
            return None
        return wilson_interval(round(self.candidate_accuracy * self.num_samples), self.num_samples)

    def to_json(self) -> dict[str, Any]:
        """Return what a JSON file holds: the fields, and what is derived of them."""
        derived = {"accuracy_interval": self.accuracy_interval}
        return {**dataclasses.asdict(self), "passed": self.passed, "derived": derived}

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> ParityReport:
        """Return the report that `to_json` wrote; what was derived is derived again."""
        names = {f.name for f in dataclasses.fields(cls)}
        known = {name: value for name, value in facts.items() if name in names}
        return cls(
            **{
                **known,
                "flips": tuple(Flip(**flip) for flip in facts["flips"]),
                "reasons": tuple(facts.get("reasons", ())),
                "bounds": Bounds(**facts["bounds"]),
                "per_class": tuple(ClassCount(**one) for one in facts.get("per_class", ())),
                "confusion": tuple(tuple(row) for row in facts.get("confusion", ())),
                "layers": tuple(layer_error(one) for one in facts.get("layers", ())),
                "delegation": Delegation.from_json(facts["delegation"]),
            }
        )


def layer_error(facts: dict[str, Any]) -> LayerError:
    """Return the layer that JSON holds."""
    limits = facts["range"]
    return LayerError(**{**facts, "seen": tuple(facts["seen"]), "range": limits and tuple(limits)})


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a proportion.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    Journal of the American Statistical Association 22, 1927.
    """
    if trials == 0:
        return 0.0, 1.0
    z2 = 1.959963984540054**2
    share = successes / trials
    middle = share + z2 / (2 * trials)
    spread = math.sqrt(z2 * (share * (1 - share) + z2 / (4 * trials)) / trials)
    low, high = ((middle + sign * spread) / (1 + z2 / trials) for sign in (-1, 1))
    # At the ends the formula gives exactly 0 or 1, but for the last bit.
    return (0.0 if successes == 0 else low), (1.0 if successes == trials else high)
