"""Bounds of each precision, and the verdict on a comparison with the reasons for it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from lenet_edge.errors import LenetEdgeError
from lenet_edge.results.enough_images import ROUNDING, decides, too_few_reason, undecided_bounds
from lenet_edge.results.formatting import plain_number
from lenet_edge.results.parity_report import Bounds
from lenet_edge.results.stats import exceeds_chance
from lenet_edge.support.toml_file import parse_toml, read_settings
from lenet_edge.target import Delegation
from lenet_edge.verify.output_errors import OutputErrors

# Bounds that each precision can meet, with a margin for the variation between trainings.
DEFAULTS = {
    "float32": Bounds(0.1, min_agreement=99.9, max_abs_error=0.01, min_snr_db=60),
    "float16": Bounds(0.1, min_agreement=99.8, max_abs_error=0.25, min_snr_db=40),
    "dynamic": Bounds(0.1, min_agreement=99.5, min_snr_db=20),
    "int16x8": Bounds(0.1, min_agreement=99.5, min_snr_db=20),
    "int8": Bounds(0.1, min_agreement=99.0, min_snr_db=20),
    # Rounding to 4 bits leaves 17 to 20 dB in the weights of a dense layer, and LeNet's logits 24.
    "int4": Bounds(0.1, min_agreement=98.5, min_snr_db=12),
    "unknown": Bounds(0.1, min_agreement=99.0, min_snr_db=20),
}
SIGNIFICANT = 0.05
_DEFAULT_ERRORS = {bounds.max_abs_error for bounds in DEFAULTS.values()}
_ENOUGH_FOR_ALARM = 20  # images
_NAMES = tuple(field.name for field in dataclasses.fields(Bounds))
_SECTION = "tool.lenet-edge"
OUTPUT_BOUNDS = ("min_agreement", "max_abs_error", "min_snr_db", "min_cosine")
OUTPUTS = "outputs"  # the table of bounds for single outputs, by their names


def applied_precision(precision: str, delegation: Delegation | None) -> str:
    """Return the precision whose bounds apply to a file of `precision` on a target.

    A device may compute a float32 file in float16. Then the bounds of float16 apply.
    """
    in_float16 = delegation is not None and delegation.precision == "float16"
    return "float16" if in_float16 and precision == "float32" else precision


def bounds_for(precision: str, settings: Mapping[str, Any]) -> Bounds:
    """Return the bounds of a precision: the defaults, overridden by `settings`.

    Args:
        precision: the precision of the artifact; without defaults, those of "unknown" apply.
        settings: bounds by name; under the name of a precision, bounds of that precision alone.
    """
    own = own_bounds(settings)
    if precision not in DEFAULTS:  # a foreign manifest may hold any text
        precision = "unknown"
    return dataclasses.replace(DEFAULTS[precision], **{**own, **settings.get(precision, {})})


def own_bounds(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the bounds of some settings that belong to no precision and no output."""
    return {name: value for name, value in settings.items() if name in _NAMES}


def bounds_for_output(
    precision: str, settings: Mapping[str, Any], names: Iterable[str]
) -> tuple[Bounds, frozenset[str]]:
    """Return the bounds of one output of a file that is compared output by output.

    Args:
        precision: see `bounds_for`.
        settings: see `bounds_for`; under "outputs", bounds of single outputs by their names.
        names: the names of the output in both files.

    Returns:
        The bounds, and the names of those that the user has set.
    """
    bounds = bounds_for(precision, settings)
    chosen = {**own_bounds(settings), **settings.get(precision, {})}
    for name in names:
        chosen |= settings.get(OUTPUTS, {}).get(name, {})
    # The default limit is for logits. Other outputs may have any unit.
    unit_free = {"max_accuracy_drop": None, "max_abs_error": None}
    return dataclasses.replace(bounds, **{**unit_free, **chosen}), frozenset(chosen)


def judge_output(
    errors: OutputErrors, bounds: Bounds, chosen: Collection[str], random_inputs: bool
) -> tuple[str, tuple[str, ...]]:
    """Decide whether one output keeps its bounds.

    On random inputs the agreement of a classifier decides only if the user has set its bound: many
    of its predictions are close calls. With few rows, the agreement must differ significantly.

    Args:
        errors: the errors of the output.
        bounds: the limits.
        chosen: the names of the limits that the user has set.
        random_inputs: whether the inputs were random.

    Returns:
        The verdict ("pass" or "fail"), and the reasons in words.
    """
    reasons = []
    if errors.non_finite:
        reasons.append(f"{errors.non_finite:,} values are NaN or infinite in one file only")
    is_exact = errors.noise == 0
    snr, lowest = errors.snr_db, bounds.min_snr_db
    if not errors.is_integer and not is_exact and lowest is not None:
        if errors.signal == 0:
            reasons.append(
                f"the reference is 0 everywhere, and it is off by {plain_number(errors.worst)}"
            )
        elif snr is not None and snr < lowest:
            reasons.append(
                f"the signal-to-noise ratio is {snr:.1f} dB, less than the {lowest:g} required"
            )
    cosine, least = errors.cosine, bounds.min_cosine
    if least is not None and not is_exact and (cosine is None or cosine < least):
        shown = "not defined" if cosine is None else f"{cosine:.6f}"
        reasons.append(f"the cosine is {shown}, less than the {least:g} required")
    if bounds.max_abs_error is not None and errors.worst > bounds.max_abs_error:
        reasons.append(
            f"a value is off by {plain_number(errors.worst)}, more than the"
            f" {bounds.max_abs_error:g} allowed"
        )
    wanted = bounds.min_agreement
    is_judged = errors.is_integer or not random_inputs or "min_agreement" in chosen
    if errors.agreement is not None and wanted is not None and is_judged:
        same, count = errors.agreement
        share = 100 * same / max(1, count)
        few = not decides(count, 100 - wanted)
        if share < wanted - ROUNDING and (
            not few or _binomial_tail(count - same, count, 1 - wanted / 100) < SIGNIFICANT
        ):
            kind = "integers are equal" if errors.is_integer else "classes are equal"
            reasons.append(f"{share:.2f} % of the {kind}, less than the {wanted:g} required")
    return ("fail" if reasons else "pass"), tuple(reasons)


def read_bounds(folder: Path) -> dict[str, Any]:
    """Read the bounds in the ``[tool.lenet-edge]`` section of a folder's pyproject.toml.

    Returns:
        The `settings` of `bounds_for`; empty without a file or a section.

    Raises:
        LenetEdgeError: the section is invalid, or the file cannot be read or is too large.
        MissingPackageError: this Python needs a package to read TOML.
    """
    path = folder / "pyproject.toml"
    try:
        text = read_settings(path) if path.is_file() else ""
        if f"[{_SECTION}" not in text:
            return {}
        section = parse_toml(text, "fleet")["tool"]["lenet-edge"]
        return _check_section(section, tables=True)
    except OSError as error:
        raise LenetEdgeError(f"cannot read {path}: {error.strerror}; check the file") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise LenetEdgeError(
            f"{path}, [{_SECTION}]: {error}; valid keys are {', '.join(map(_dashed, _NAMES))},"
            f" and tables of them named {', '.join(DEFAULTS)} or {OUTPUTS}.NAME"
        ) from error


def _check_section(section: Mapping[str, Any], tables: bool) -> dict[str, Any]:
    bounds: dict[str, Any] = {}
    for key, value in section.items():
        name = key.replace("-", "_")
        if tables and key in DEFAULTS and isinstance(value, dict):
            bounds[key] = _check_section(value, tables=False)
        elif tables and key == OUTPUTS and isinstance(value, dict):
            bounds[key] = {n: _check_section(own, tables=False) for n, own in value.items()}
        elif name not in _NAMES:
            raise ValueError(f"{key} is unknown")
        elif (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not (0 <= value <= sys.float_info.max)
        ):
            raise ValueError(f"{key} = {value!r:.40} is not a number of 0 or more")
        else:
            bounds[name] = float(value)
    return bounds


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def judge_parity(comparison: Mapping[str, Any], bounds: Bounds) -> tuple[str, tuple[str, ...]]:
    """Decide whether an artifact passes its bounds.

    If there are enough images that a bound allows at least one wrong image, the point estimate
    decides. With fewer images, a single image would decide. Then an artifact fails only if the
    result is significant (p below 0.05 by McNemar's test or the binomial test). It passes only if
    no prediction changes on 300 images or more. Outputs that are no classes are judged by their
    errors.

    Args:
        comparison: the fields that `parity.compare_logits` returned.
        bounds: the bounds to check.

    Returns:
        The verdict ("pass", "fail" or "inconclusive"), and the reasons in words.
    """
    count = comparison["num_samples"]
    fails: list[str] = []
    undecided: list[str] = []
    if comparison["non_finite"]:
        fails.append(f"{comparison['non_finite']:,} images have logits that are NaN or infinite")
    if comparison["top1_agreement"] is None:
        fails += _errors_of_values(comparison, bounds)
        return ("fail", tuple(fails)) if fails else ("pass", ())
    if alarm := _alarm(comparison, bounds):
        fails.append(alarm)
    elif _is_constant(comparison):
        undecided.append(
            f"both predict one class for all {count:,} images, so their agreement shows nothing;"
            " check the input values"
        )
    drop, limit = comparison["accuracy_drop"], bounds.max_accuracy_drop
    if drop is not None and limit is not None:
        few = not decides(count, limit)
        if drop > limit + ROUNDING and (not few or comparison["mcnemar_p"] < SIGNIFICANT):
            fails.append(
                f"it loses {drop:.2f} points of accuracy, {plain_number(drop - limit, 2)} more"
                f" than the {limit:g} allowed"
            )
    agreement, lowest = 100 * comparison["top1_agreement"], bounds.min_agreement
    if lowest is not None:
        few = not decides(count, 100 - lowest)
        if alarm:
            pass  # it states the agreement
        elif agreement < lowest - ROUNDING and (
            not few
            or _binomial_tail(len(comparison["flips"]), count, 1 - lowest / 100) < SIGNIFICANT
        ):
            fails.append(
                f"it agrees on {agreement:.2f} % of the images,"
                f" {plain_number(lowest - agreement, 2)} less than the {lowest:g} required"
            )
    error, largest = comparison["max_abs_error"], bounds.max_abs_error
    if largest is not None and error > largest:
        fails.append(
            f"a logit is off by {plain_number(error)}, {plain_number(error - largest, 2)} more"
            f" than the {largest:g} allowed"
        )
    if fails:
        return "fail", tuple(fails)
    few_bounds = undecided_bounds(count, len(comparison["flips"]), drop is not None, bounds)
    undecided += [too_few_reason(count, bound) for bound in few_bounds]
    return ("inconclusive", tuple(undecided)) if undecided else ("pass", ())


def _errors_of_values(comparison: Mapping[str, Any], bounds: Bounds) -> list[str]:
    """Return the bounds on errors that outputs without classes break."""
    fails = []
    ratio, lowest = comparison["snr_db"], bounds.min_snr_db
    if ratio is not None and lowest is not None and ratio < lowest:
        fails.append(
            f"the signal-to-noise ratio of its outputs is {ratio:.1f} dB, less than the {lowest:g}"
            " required"
        )
    # The default limits are for logits. Other outputs may have any unit.
    error, largest = comparison["max_abs_error"], bounds.max_abs_error
    if largest is not None and largest not in _DEFAULT_ERRORS and error > largest:
        fails.append(
            f"an output is off by {plain_number(error)}, more than the {largest:g} allowed"
        )
    return fails


def _alarm(comparison: Mapping[str, Any], bounds: Bounds) -> str | None:
    """Return a reason if a candidate agrees no better than an unrelated model would."""
    count, agreement = comparison["num_samples"], comparison["top1_agreement"]
    chance, lowest = comparison["chance_agreement"], bounds.min_agreement
    if lowest is None or count < _ENOUGH_FOR_ALARM or 100 * agreement >= lowest:
        return None
    if exceeds_chance(agreement, chance, count):
        return None
    return (
        f"ALARM: it agrees on {100 * agreement:.2f} % of the images, and an unrelated model would"
        f" on {100 * chance:.2f} %; the input values, the order of the classes or the file are"
        " wrong"
    )


def _is_constant(comparison: Mapping[str, Any]) -> bool:
    """Return True if both models predict one class for images that should differ."""
    labelled = [counts for counts in comparison.get("per_class", ()) if counts.num_samples]
    return (
        comparison["chance_agreement"] == 1
        and comparison["num_samples"] >= _ENOUGH_FOR_ALARM
        and len(labelled) != 1
    )


def _binomial_tail(at_least: int, count: int, share: float) -> float:
    """Compute the probability of `at_least` or more successes in `count` Bernoulli trials.

    Each trial succeeds with the probability `share`.
    """
    term, fewer = (1 - share) ** count, 0.0
    for k in range(at_least):
        fewer += term
        term *= (count - k) / (k + 1) * share / (1 - share)
    return 1 - fewer
