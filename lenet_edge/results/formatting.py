"""Figures and names of results as short text, for tables and sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lenet_edge.machine.environment import Environment

MISSING = "–"  # a table cell without a value


def microseconds(seconds: float | None) -> str:
    """Format a latency in microseconds, without the unit: "0.123", "4.7" or "1,234"."""
    if seconds is None:
        return MISSING
    value = seconds * 1e6
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 1 else f"{value:.3f}"


def latency(seconds: float) -> str:
    """Format a latency with the unit that suits it: "4.7 µs", "1.2 ms" or "2.50 s"."""
    if seconds >= 1:
        return f"{seconds:,.2f} s"
    return f"{plain_number(seconds * 1e3)} ms" if seconds >= 1e-3 else f"{microseconds(seconds)} µs"


def with_prefix(value: float, unit: str) -> str:
    """Format a value with the prefix that suits it: "4.7 µJ", "1.2 mJ" or "2.5 J"."""
    factor, prefix = (1.0, "") if value >= 1 else (1e3, "m") if value >= 1e-3 else (1e6, "µ")
    return f"{plain_number(value * factor)} {prefix}{unit}"


def plain_number(value: float, digits: int = 3) -> str:
    """Format a number like the format "g", but without exponent: "1,020" or "0.47"."""
    text = _rounded(value, digits)
    return text.rstrip("0").rstrip(".") if "." in text else text


def error(value: float) -> str:
    """Format a difference of outputs with two digits, and without exponent: "0.000012", "3.4"."""
    return _rounded(value, 2)


def _rounded(value: float, digits: int) -> str:
    """Format a number with some significant digits, or all digits before the decimal point."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    return f"{value:,.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def percent(fraction: float | None) -> str:
    """Format a fraction as a percentage with two decimals, without the sign: "98.99"."""
    return MISSING if fraction is None else f"{100 * fraction:.2f}"


def points(value: float | None, sign: str = "") -> str:
    """Format percentage points with two decimals; `sign` is "+" to mark gains."""
    # Adding 0.0 turns -0.0 into 0.0.
    return MISSING if value is None else f"{value + 0.0:{sign}.2f}"


def whole_number(value: float | None) -> str:
    """Format a number without decimals, with separators: "9,876"."""
    return MISSING if value is None else f"{round(value):,}"


def short_number(value: float | None) -> str:
    """Format a large number in at most five characters: "9876", "123k" or "12M"."""
    if value is None:
        return MISSING
    if value >= 10_000_000:
        return f"{value / 1e6:.0f}M"
    return f"{value / 1000:.0f}k" if value >= 10_000 else f"{value:.0f}"


def end_of_name(name: str, width: int) -> str:
    """Shorten a name to its end, which differs between layers of one prefix: "…dense/MatMul"."""
    return name if len(name) <= width else f"…{name[1 - width :]}"


def plural(count: int, noun: str) -> str:
    """Format a count with its noun: "1 thread" or "4 threads"."""
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending}"


def name_some(names: Sequence[str], most: int) -> str:
    """Join the first names and the number of the rest: "a and b and 3 more"."""
    rest = [f"{len(names) - most} more"] if len(names) > most else []
    return " and ".join([*names[:most], *rest])


def target_and_threads(target: str, num_threads: int) -> str:
    """Format a target, with its threads if there are several: "litert-xnnpack ×4"."""
    return f"{target} ×{num_threads}" if num_threads > 1 else target


def machine_name(environment: Environment) -> str:
    """Format a machine in a few words: "Raspberry Pi 5 (in docker), 4 cores"."""
    notes = [
        "EMULATED" if environment.emulated else None,
        "virtual" if environment.virtualized else None,
        f"in {environment.container}" if environment.container else None,
    ]
    note = ", ".join(filter(None, notes))
    return f"{environment.machine}{f' ({note})' if note else ''}, {environment.cores} cores"
