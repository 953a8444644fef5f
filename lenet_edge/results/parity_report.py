"""Comparison of an artifact on a target with its reference.

ParityReport        one pair
├── Bounds          limits that decide the verdict
├── Flip *          images whose predicted class changed
├── ClassCount *    images of one class that each model gets right
├── OutputReport *  errors of one output, of files that were compared output by output
└── LayerError *    quantization error of one layer
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from lenet_edge.results.formatting import percent, points
from lenet_edge.support.html_table import html_table
from lenet_edge.target import Delegation

VERDICTS = ("pass", "inconclusive", "fail")  # from the best to the worst


@dataclass(frozen=True)
class Flip:
    """Test image that reference and candidate predict differently.

    Attributes:
        index: index of the image.
        label: class in the labels; None without labels.
        was: class that the reference predicts.
        now: class that the candidate predicts; -1 if its logits are not numbers.
        was_confidence: probability of `was` by the reference.
        confidence: probability of `now` by the candidate.
    """

    index: int
    label: int | None
    was: int
    now: int
    was_confidence: float | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class ClassCount:
    """Number of images of one class, and how many of them each model gets right."""

    name: str
    num_samples: int
    reference_right: int
    candidate_right: int


@dataclass(frozen=True)
class LayerError:
    """Error of one layer of a quantized file, against the same layer of its float sibling.

    Attributes:
        name: name of the layer's output.
        kind: type of the operator.
        sqnr_db: signal-to-quantization-noise ratio of the output; None without any noise.
        lost_db: reduction of that ratio by this layer alone.
        max_abs_error: largest absolute error of a value.
        saturation: fraction of the values outside `range`.
        range: smallest and largest value that the layer can hold; None if it is not quantized.
        seen: smallest and largest value of the float sibling.
        hint: likely cause, and how to fix it.
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

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> LayerError:
        """Return the layer whose fields a JSON object holds."""
        limits = facts["range"]
        return cls(**{**facts, "seen": tuple(facts["seen"]), "range": limits and tuple(limits)})


@dataclass(frozen=True)
class Bounds:
    """Limits that an artifact must keep to pass; None sets no limit.

    Attributes:
        max_accuracy_drop: in percentage points.
        min_agreement: in percent of the images.
        max_abs_error: in units of the logits.
        min_snr_db: lowest signal-to-noise ratio of outputs that are no classes.
        min_cosine: lowest cosine of the angle between the outputs, compared output by output.
    """

    max_accuracy_drop: float | None = None
    min_agreement: float | None = None
    max_abs_error: float | None = None
    min_snr_db: float | None = None
    min_cosine: float | None = None


@dataclass(frozen=True)
class OutputReport:
    """Comparison of one output of a candidate with the same output of the reference.

    Attributes:
        name: name of the output in the candidate.
        reference_name: name of the output in the reference.
        paired_by: "name", "shape" or "order".
        layout: how the candidate's values were rearranged; "" if they were not.
        num_values: number of values in all calls.
        max_abs_error: largest absolute error.
        mean_abs_error: mean absolute error.
        snr_db: signal-to-noise ratio; None without noise or signal.
        cosine: cosine of the angle between both outputs; None if one of them is zero.
        top1_agreement: fraction of rows with the same class, for a classifier; of integers, the
            fraction of equal values. None for real values.
        non_finite: number of values that are NaN or infinite in one of both.
        bounds: limits that decided the verdict.
        verdict: "pass", "fail" or "inconclusive".
        reasons: reasons for the verdict, each as a phrase.
    """

    name: str
    reference_name: str
    paired_by: str
    layout: str
    num_values: int
    max_abs_error: float
    mean_abs_error: float
    snr_db: float | None
    cosine: float | None
    top1_agreement: float | None
    non_finite: int
    bounds: Bounds
    verdict: str
    reasons: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> OutputReport:
        """Return the report whose fields a JSON object holds."""
        bounds, reasons = Bounds(**facts["bounds"]), tuple(facts["reasons"])
        return cls(**{**facts, "bounds": bounds, "reasons": reasons})


@dataclass(frozen=True)
class ParityReport:
    """Comparison of a candidate (an artifact on a target) with a reference.

    The reference is the checkpoint or another model file. Accuracies and agreement are fractions
    of `num_samples`. Figures that need labels are None without them.

    Attributes:
        reference: name of the reference.
        candidate: file name of the artifact.
        candidate_sha256: digest of that file.
        target: name of the target.
        num_samples: number of images.
        reference_accuracy: accuracy of the reference.
        candidate_accuracy: accuracy of the candidate.
        accuracy_drop: in percentage points, positive if the candidate is worse.
        top1_agreement: images for which both predict the same class; of independent
            probabilities, the same set of classes at 0.5. None for outputs that are no classes.
        flips: images for which they do not.
        mcnemar_p: p-value of McNemar's test on the right and wrong predictions.
        max_abs_error: largest difference of a logit.
        mean_abs_error: mean absolute difference of the logits.
        non_finite: number of images with NaN or infinity among the candidate's logits.
        verdict: "pass", "fail" or "inconclusive" (too few images, or
            an assumption about the input).
        reasons: reasons for the verdict, each as a phrase.
        bounds: limits that decided the verdict.
        per_class: accuracy of each class.
        confusion: number of images by label and predicted class; empty above 100 classes.
        reference_confidence: mean probability of the class that the reference predicts.
        candidate_confidence: mean probability of the class that the candidate predicts.
        confidence_drift: mean absolute change of that probability.
        diagnosis: error in the model's input that explains a failure; None if there is none.
        layers: errors of the layers, the worst first.
        delegation: nodes that a delegate or device took.
        head: meaning of the outputs, a value of `artifacts.head.Head`; None in older files.
        snr_db: signal-to-noise ratio of the outputs; None without noise, and in older files.
        chance_agreement: agreement of two unrelated models with these predictions.
        outputs: the outputs, if two files were compared output by output. The figures of the
            report are then those of the worst output.
        inputs: the inputs of such a comparison: "random", or the name of their file.
        notes: how inputs and outputs were paired and rearranged, each as a phrase.
    """

    reference: str
    candidate: str
    candidate_sha256: str
    target: str
    num_samples: int
    reference_accuracy: float | None
    candidate_accuracy: float | None
    accuracy_drop: float | None
    top1_agreement: float | None
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
    head: str | None = None
    snr_db: float | None = None
    chance_agreement: float | None = None
    outputs: tuple[OutputReport, ...] = ()
    inputs: str | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        agreement = f"{percent(self.top1_agreement)} % agreement"
        if self.top1_agreement is None:
            agreement = f"largest error {self.max_abs_error:.1e}"
        return (
            f"ParityReport({self.candidate!r} on {self.target}: {self.verdict}, {agreement} on"
            f" {self.samples})"
        )

    def html_row(self) -> dict[str, str]:
        """Return the cells of a table; see `support.html_table`."""
        return {
            "file": self.candidate,
            "target": self.target,
            "verdict": self.verdict,
            "accuracy %": percent(self.candidate_accuracy),
            "drop": points(self.accuracy_drop),
            "agreement %": percent(self.top1_agreement),
            "flips": f"{len(self.flips):,}",
            "max error": f"{self.max_abs_error:.1e}",
            "images": f"{self.num_samples:,}",
            "reasons": "; ".join((*self.reasons, *filter(None, [self.diagnosis]))),
        }

    def _repr_html_(self) -> str:
        return html_table([self.html_row()])

    def __bool__(self) -> bool:
        return self.passed

    @property
    def samples(self) -> str:
        """The number and the kind of the samples in words, such as "20 random inputs"."""
        kind = "images" if self.inputs is None else "inputs"
        return f"{self.num_samples:,} {'random ' if self.inputs == 'random' else ''}{kind}"

    @property
    def passed(self) -> bool:
        """True if the verdict is "pass"."""
        return self.verdict == "pass"

    @property
    def accuracy_interval(self) -> tuple[float, float] | None:
        """95 % confidence interval of the candidate's accuracy; None without labels."""
        if self.candidate_accuracy is None:
            return None
        return wilson_interval(round(self.candidate_accuracy * self.num_samples), self.num_samples)

    def to_json(self) -> dict[str, Any]:
        """Return the fields and the derived figures as a JSON object."""
        derived = {"accuracy_interval": self.accuracy_interval}
        return {**dataclasses.asdict(self), "passed": self.passed, "derived": derived}

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> ParityReport:
        """Return the report that `to_json` wrote; compute the derived figures again."""
        names = {f.name for f in dataclasses.fields(cls)}
        known = {name: value for name, value in facts.items() if name in names}
        return cls(
            **{
                **known,
                "flips": tuple(Flip(**flip) for flip in facts["flips"]),
                "reasons": tuple(facts.get("reasons", ())),
                "bounds": Bounds(**facts["bounds"]),
                "per_class": tuple(ClassCount(**count) for count in facts.get("per_class", ())),
                "confusion": tuple(tuple(row) for row in facts.get("confusion", ())),
                "layers": tuple(map(LayerError.from_json, facts.get("layers", ()))),
                "outputs": tuple(map(OutputReport.from_json, facts.get("outputs", ()))),
                "notes": tuple(facts.get("notes", ())),
                "delegation": Delegation.from_json(facts["delegation"]),
            }
        )


def worst_verdict(verdicts: Collection[str]) -> str:
    """Return the worst of some verdicts, of which there is at least one."""
    return next(verdict for verdict in reversed(VERDICTS) if verdict in verdicts)


def wilson_interval(successes: int, count: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of the proportion `successes / count`.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    Journal of the American Statistical Association 22, 1927.
    """
    if count == 0:
        return 0.0, 1.0
    z2 = 1.959963984540054**2
    share = successes / count
    middle = share + z2 / (2 * count)
    spread = math.sqrt(z2 * (share * (1 - share) + z2 / (4 * count)) / count)
    low, high = ((middle + sign * spread) / (1 + z2 / count) for sign in (-1, 1))
    # At the ends the exact result is 0 or 1. Rounding would change the last bit.
    return (0.0 if successes == 0 else low), (1.0 if successes == count else high)
