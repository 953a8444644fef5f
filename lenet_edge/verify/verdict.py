"""The bounds that a file is held to, and the verdict in words."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lenet_edge.errors import LenetEdgeError
from lenet_edge.results.parity_report import Bounds

# What each precision can be expected to keep, with room for the luck of one training.
DEFAULTS = {
    "float32": Bounds(max_accuracy_drop=0.1, min_agreement=99.9, max_abs_error=0.01),
    "float16": Bounds(max_accuracy_drop=0.1, min_agreement=99.8, max_abs_error=0.25),
    "dynamic": Bounds(max_accuracy_drop=0.1, min_agreement=99.5),
    "int16x8": Bounds(max_accuracy_drop=0.1, min_agreement=99.5),
    "int8": Bounds(max_accuracy_drop=0.1, min_agreement=99.0),
    "unknown": Bounds(max_accuracy_drop=0.1, min_agreement=99.0),
}
SIGNIFICANT = 0.05
_ROUNDING = 1e-9  # 100 - 99.9 is a little less than 0.1
_NAMES = tuple(field.name for field in dataclasses.fields(Bounds))
_SECTION = "tool.lenet-edge"


def bounds_for(precision: str, settings: Mapping[str, Any]) -> Bounds:
    """Return the bounds for a precision: its defaults, or what `settings` say instead.

    Args:
        precision: of the file; one that has no defaults is held to those of "unknown".
        settings: bounds by name; under a precision's name, bounds for that one alone.
    """
    own = {name: value for name, value in settings.items() if name in _NAMES}
    if precision not in DEFAULTS:  # it may be what a manifest of anybody's says
        precision = "unknown"
    return dataclasses.replace(DEFAULTS[precision], **{**own, **settings.get(precision, {})})


def read_bounds(folder: Path) -> dict[str, Any]:
    """Return the bounds in the ``[tool.lenet-edge]`` section of a folder's pyproject.toml, if any.

    Raises:
        LenetEdgeError: the section is not what it should be, or this Python cannot read it.
    """
    path = folder / "pyproject.toml"
    try:
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    except OSError as error:
        raise LenetEdgeError(f"cannot read {path}: {error.strerror}; check the file") from error
    if f"[{_SECTION}" not in text:
        return {}
    if sys.version_info < (3, 11):
        raise LenetEdgeError(
            f"{path} has a [{_SECTION}] section, which takes Python 3.11 to read; give the bounds"
            " as options instead, from another folder"
        )
    import tomllib

    try:
        section = tomllib.loads(text)["tool"]["lenet-edge"]
        return _checked(section, tables=True)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise LenetEdgeError(
            f"{path}, [{_SECTION}]: {error}; it takes {', '.join(map(_dashed, _NAMES))},"
            f" and tables of them named {', '.join(DEFAULTS)}"
        ) from error


def _checked(section: Mapping[str, Any], tables: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in section.items():
        name = key.replace("-", "_")
        if tables and key in DEFAULTS and isinstance(value, dict):
            found[key] = _checked(value, tables=False)
        elif name not in _NAMES:
            raise ValueError(f"{key} is unknown")
        elif (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not (0 <= value <= sys.float_info.max)
        ):
            raise ValueError(f"{key} = {value!r:.40} is no number from 0")
        else:
            found[name] = float(value)
    return found


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def judge_parity(found: Mapping[str, Any], bounds: Bounds) -> tuple[str, tuple[str, ...]]:
    """Return the verdict ("pass", "fail" or "inconclusive") and its reasons, in words.

    The point estimate decides when there are so many images that a bound allows one to be lost.
    With fewer, one image more or less would decide: then a file fails only where that is beyond
    chance (p below 0.05, by McNemar's test or the binomial one), and nothing can pass.

    Args:
        found: what `parity.compare` returned.
        bounds: those to hold it to.
    """
    count = found["num_samples"]
    fails: list[str] = []
    unsure: list[str] = []
    if found["non_finite"]:
        fails.append(f"{found['non_finite']:,} images are answered with NaN or infinity")
    drop, limit = found["accuracy_drop"], bounds.max_accuracy_drop
    if drop is not None and limit is not None:
        few = limit > 0 and count * limit / 100 < 1 - _ROUNDING
        if drop > limit + _ROUNDING and (not few or found["mcnemar_p"] < SIGNIFICANT):
            fails.append(
                f"it loses {drop:.2f} points of accuracy, {drop - limit:.2g} more than the"
                f" {limit:g} allowed"
            )
        elif few:
            unsure.append(_too_few(count, f"a drop of {limit:g} points", 100 / limit))
    agreement, least = 100 * found["top1_agreement"], bounds.min_agreement
    if least is not None:
        few = least < 100 and count * (100 - least) / 100 < 1 - _ROUNDING
        if agreement < least - _ROUNDING and (
            not few or _chance(len(found["flips"]), count, 1 - least / 100) < SIGNIFICANT
        ):
            fails.append(
                f"it agrees on {agreement:.2f} % of the images, {least - agreement:.2g} less than"
                f" the {least:g} asked for"
            )
        elif few and (found["flips"] or drop is None or limit is None):
            # Where nothing flips and there are labels, the bound on accuracy has spoken.
            unsure.append(_too_few(count, f"an agreement of {least:g} %", 100 / (100 - least)))
    error, most = found["max_abs_error"], bounds.max_abs_error
    if most is not None and error > most:
        fails.append(
            f"a logit is off by {error:.3g}, {error - most:.2g} more than the {most:g} allowed"
        )
    if fails:
        return "fail", tuple(fails)
    return ("inconclusive", tuple(unsure)) if unsure else ("pass", ())


def _too_few(count: int, what: str, needed: float) -> str:
    return f"{count:,} images are too few to tell {what}; give {math.ceil(needed - 1e-6):,} or more"


def _chance(at_least: int, count: int, share: float) -> float:
    """Return how likely it is to count `at_least` in `count` trials of probability `share`."""
    term, fewer = (1 - share) ** count, 0.0
    for k in range(at_least):
        fewer += term
        term *= (count - k) / (k + 1) * share / (1 - share)
    return 1 - fewer
