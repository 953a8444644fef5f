"""Rule for the number of images that decides a bound, and the advice if there are too few."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lenet_edge.results.parity_report import Bounds, ParityReport

# Without a change on so many images, at most 1 % of all predictions change, with 95 % confidence
# (the rule of three).
MIN_UNCHANGED = 300
ROUNDING = 1e-9  # in floating point, 100 - 99.9 is slightly less than 0.1
# Images of the check before a benchmark: few enough for a GPU in software, enough to see a wrong
# model. With the default bounds they are too few for the verdict "pass".
NUM_CHECKED = 256
CHECK_HINT = f"bench checks only {NUM_CHECKED} images, and lenet-edge verify all"
_STEP = 0.01  # of a bound in the advice, in percent


@dataclass(frozen=True)
class UndecidedBound:
    """Bound that a number of images is too small for.

    Attributes:
        option: name of the bound, such as "max-accuracy-drop".
        limit: its value.
    """

    option: str
    limit: float

    def __str__(self) -> str:
        if self.option == "max-accuracy-drop":
            return f"a drop of {self.limit:g} points"
        return f"an agreement of {self.limit:g} %"

    @property
    def percent(self) -> float:
        """Percentage of the images that the bound allows to be wrong."""
        return self.limit if self.option == "max-accuracy-drop" else 100 - self.limit

    @property
    def min_images(self) -> int:
        """Smallest number of images that decides the bound."""
        count = math.ceil(100 / self.percent - 1e-6)
        return count if decides(count, self.percent) else count + 1

    def decidable(self, count: int) -> str:
        """Return the option with the strictest bound that a number of images decides."""
        percent = math.ceil(100 / max(count, 1) / _STEP - 1e-6) * _STEP
        value = percent if self.option == "max-accuracy-drop" else 100 - percent
        return f"--{self.option} {value:.6g}"


@dataclass(frozen=True)
class TooFewImages:
    """Advice for all pairs of a run that have too few images.

    Attributes:
        num_images: number of images.
        bounds: bounds that they do not decide, the strictest first.
        more: number of further images that decide each bound.
        more_if_unchanged: number that is enough while no prediction changes; None if one has.
    """

    num_images: int
    bounds: tuple[UndecidedBound, ...]
    more: int
    more_if_unchanged: int | None

    def __str__(self) -> str:
        """Return the advice as one sentence without a full stop."""
        strictest = {bound.option: bound for bound in reversed(self.bounds)}
        looser = " ".join(bound.decidable(self.num_images) for bound in strictest.values())
        unchanged = (
            f" ({self.more_if_unchanged:,} if no prediction changes)"
            if self.more_if_unchanged is not None
            else ""
        )
        return (
            f"{self.num_images:,} images are too few to decide"
            f" {' and '.join(map(str, strictest.values()))}: {self.more:,} more are"
            f" needed{unchanged}, or a looser bound of verify: {looser}"
            f"{f'; {CHECK_HINT}' if self.num_images == NUM_CHECKED else ''}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the advice as a JSON object."""
        return {
            "num_images": self.num_images,
            "bounds": {
                f"{bound.option} {bound.limit:g}": bound.min_images for bound in self.bounds
            },
            "more": self.more,
            "more_if_unchanged": self.more_if_unchanged,
            "sentence": f"{self}.",
        }


def decides(count: int, percent: float) -> bool:
    """Return True if a number of images decides a bound that allows a percentage to be wrong.

    Otherwise a single wrong image would decide.
    """
    return percent <= 0 or count * percent / 100 >= 1 - ROUNDING


def undecided_bounds(
    count: int, num_flips: int, has_drop: bool, bounds: Bounds
) -> tuple[UndecidedBound, ...]:
    """Return the bounds that a number of images does not decide, if none of them is broken.

    Args:
        count: number of images.
        num_flips: number of images whose prediction changed.
        has_drop: whether the images have labels, so that the loss of accuracy is known.
        bounds: the bounds.
    """
    if count >= MIN_UNCHANGED and not num_flips:
        return ()
    drop = bounds.max_accuracy_drop if has_drop else None
    agreement = bounds.min_agreement
    applied = []
    if drop is not None:
        applied.append(UndecidedBound("max-accuracy-drop", drop))
    # With labels and without flips, the bound on the accuracy decides.
    if agreement is not None and (num_flips or drop is None):
        applied.append(UndecidedBound("min-agreement", agreement))
    return tuple(bound for bound in applied if not decides(count, bound.percent))


def too_few_reason(count: int, bound: UndecidedBound) -> str:
    """Return the reason for the verdict on one pair, as a phrase."""
    return f"{count:,} images are too few to decide {bound}; give {bound.min_images:,} or more"


def _undecided(report: ParityReport) -> tuple[UndecidedBound, ...]:
    if report.verdict != "inconclusive" or report.top1_agreement is None or report.outputs:
        return ()
    has_drop = report.accuracy_drop is not None
    return undecided_bounds(report.num_samples, len(report.flips), has_drop, report.bounds)


def other_reasons(report: ParityReport) -> tuple[str, ...]:
    """Return the reasons of a report without those that `too_few_images` states."""
    stated = {too_few_reason(report.num_samples, bound) for bound in _undecided(report)}
    return tuple(reason for reason in report.reasons if reason not in stated)


def too_few_images(reports: Iterable[ParityReport]) -> TooFewImages | None:
    """Return the advice for all reports with too few images; None if there is no such report.

    If the reports have different numbers of images, the smallest number counts.
    """
    undecided = [(report, bounds) for report in reports if (bounds := _undecided(report))]
    if not undecided:
        return None
    count = min(report.num_samples for report, _ in undecided)
    fewest = [(report, bounds) for report, bounds in undecided if report.num_samples == count]
    strictest_first = sorted(
        {bound for _, bounds in fewest for bound in bounds}, key=lambda bound: bound.percent
    )
    needed = strictest_first[0].min_images
    unchanged = needed > MIN_UNCHANGED and not any(report.flips for report, _ in fewest)
    more_if_unchanged = MIN_UNCHANGED - count if unchanged else None
    return TooFewImages(count, tuple(strictest_first), needed - count, more_if_unchanged)
