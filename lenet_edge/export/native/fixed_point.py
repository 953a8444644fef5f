"""Fixed-point arithmetic of TensorFlow Lite's reference kernels, computed at export time.

Source: TensorFlow Lite 8-bit quantization specification, and gemmlowp's fixed-point rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Int32s = npt.NDArray[np.int32]
Integers = TypeVar("Integers", int, npt.NDArray[np.int64])
SUM_BITS = 20  # the left shift of the inputs of an ADD or a SUB
_INT32_MAX = 2**31 - 1
_MAX_DISTANCE = 64  # of a multiplier from the nearest one


def quantize_multiplier(scale: float) -> tuple[int, int]:
    """Return the 31-bit multiplier and the left shift that represent `scale`."""
    fraction, shift = math.frexp(scale)
    multiplier = math.floor(fraction * (1 << 31) + 0.5)
    if multiplier == 1 << 31:
        multiplier, shift = multiplier // 2, shift + 1
    return (0, 0) if shift < -31 else (multiplier, shift)


def scale_twice(value: Integers, multiplier: int, shift: int) -> Integers:
    """Return ``value * multiplier * 2**(shift - 31)``, rounded twice as in convolutions.

    Args:
        value: an integer, or an array of them.
        multiplier: the multiplier of `quantize_multiplier`.
        shift: its left shift.
    """
    left, right = max(shift, 0), max(-shift, 0)
    high = (_wrap(value << left) * multiplier + (1 << 30)) >> 31
    return divide_by_power_of_two(high, right)


def divide_by_power_of_two(value: Integers, exponent: int) -> Integers:
    """Return ``value / 2**exponent``, rounded to nearest, halves away from zero."""
    half = (1 << exponent) >> 1
    return (value + half - ((value < 0) & (exponent > 0))) >> exponent


def scale_once(value: int, multiplier: int, shift: int) -> int:
    """Return ``value * multiplier * 2**(shift - 31)``, rounded once, halves up."""
    return (value * multiplier + (1 << (30 - shift))) >> (31 - shift)


def mean_multiplier(scale: float, count: int) -> tuple[int, int]:
    """Return the multiplier and the left shift from a sum to a mean; the division is in them.

    Args:
        scale: the scale from the input to the output.
        count: the number of integers in a sum.
    """
    multiplier, exponent = quantize_multiplier(scale)
    shift = min(count.bit_length() - 1, 32, 31 + exponent)
    return (multiplier << shift) // count, exponent - shift


def sum_multipliers(a: float, b: float, output: float) -> dict[str, tuple[int, int]]:
    """Return the multipliers and the left shifts of an ADD or a SUB.

    "a_" and "b_" scale the inputs, shifted by `SUM_BITS`, to a common scale. "" scales their sum to
    that of the output.

    Args:
        a: the scale of the first input.
        b: the scale of the second input.
        output: the scale of the output.
    """
    twice = 2 * max(a, b)
    scales = {"a_": a / twice, "b_": b / twice, "": twice / ((1 << SUM_BITS) * output)}
    return {name: quantize_multiplier(scale) for name, scale in scales.items()}


def single_rounding_multiplier(
    scale: float, results: tuple[int, int], sums: tuple[int, int]
) -> tuple[int, int] | None:
    """Return a multiplier for which `scale_once` equals ``round(value * scale)`` in doubles.

    TensorFlow Lite's reference kernel of dense layers computes with doubles; halves are rounded
    away from zero. Both functions only grow with the value, so that they are equal where they
    reach each result at the same value.

    Args:
        scale: the scale from a sum to the output.
        results: the smallest and the largest result that matter; others are clamped to them.
        sums: the smallest and the largest sum that can occur.

    Returns:
        The multiplier and the left shift; None if there is no such multiplier.
    """
    multiplier, shift = quantize_multiplier(scale)
    if shift > 30:
        return None
    wanted = [
        (step, first)
        for step in range(results[0] + 1, results[1] + 1)
        if sums[0] < (first := _first_value(scale, step)) <= sums[1]
    ]
    for distance in range(_MAX_DISTANCE):
        for attempt in (multiplier + distance, multiplier - distance):
            if 0 <= attempt <= _INT32_MAX and all(
                scale_once(first, attempt, shift) >= step
                and scale_once(first - 1, attempt, shift) < step
                for step, first in wanted
            ):
                return attempt, shift
    return None


def _first_value(scale: float, step: int) -> int:
    """Return the smallest integer whose product with `scale` is rounded to `step` or more."""
    if scale < 2**-40:
        return 2**40
    value = math.floor((step - 0.5) / scale) - 2
    while _round_half_away(value * scale) < step:
        value += 1
    return value


def _round_half_away(value: float) -> int:
    return math.floor(abs(value) + 0.5) * (1 if value >= 0 else -1)


def exponentials(beta: float, scale: float) -> Int32s:
    """Return ``exp(-beta * scale * n)`` for n from 0 to 255 in 31-bit fixed point.

    Differences that the softmax of TensorFlow Lite leaves out are 0.
    """
    real = min(beta * scale * (1 << 26), 2**31 - 1.0)
    multiplier, shift = quantize_multiplier(real)
    radius = math.floor(31 * (1 << 26) / (1 << shift)) if shift >= 0 else 255
    values = [
        _exp_on_negative_values(_high_product(_wrap(-n << max(shift, 0)), multiplier))
        if n <= radius
        else 0
        for n in range(256)
    ]
    return np.array(values, np.int32)


def _exp_on_negative_values(value: int) -> int:
    """Return exp(value) for a value of 5 integer bits and 26 fractional bits."""
    if value == 0:
        return _INT32_MAX
    quarter = 1 << 24
    part = (value & (quarter - 1)) - quarter
    result = _exp_near_zero(part << 5)
    remainder = part - value
    factors = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
    for exponent, factor in zip(range(-2, 5), factors, strict=True):
        if remainder & (1 << (26 + exponent)):
            result = _high_product(result, factor)
    return result


def _exp_near_zero(value: int) -> int:
    # A Taylor expansion around -1/8, for values of -1/4 to 0.
    at_eighth, third = 1895147668, 715827883
    x = value + (1 << 28)
    x2 = _high_product(x, x)
    x3, x4 = _high_product(x2, x), _high_product(x2, x2)
    rest = divide_by_power_of_two(_high_product(divide_by_power_of_two(x4, 2) + x3, third) + x2, 1)
    return at_eighth + _high_product(at_eighth, x + rest)


def _high_product(a: int, b: int) -> int:
    return (a * b + (1 << 30)) >> 31


def table_of(
    function: Callable[[float], float],
    scale: float,
    zero: int,
    out_scale: float,
    out_zero: int,
    low: int,
) -> list[int]:
    """Return the integers that represent ``function(x)`` for all 256 integers, `low` first.

    The arithmetic is that of float32, as in TensorFlow Lite's look-up tables.
    """
    inverse = np.float32(1) / np.float32(out_scale)
    values = []
    for integer in range(low, low + 256):
        x = np.float32(scale) * np.float32(integer - zero)
        rescaled = np.float32(np.float32(function(float(x))) * inverse)
        value = int(np.float32(_round_half_away(float(rescaled)) + np.float32(out_zero)))
        values.append(min(max(value, low), low + 255))
    return values


def logistic(x: float) -> float:
    """Return the logistic function of a float32, in float32 arithmetic."""
    try:
        power = np.float32(math.exp(-float(x)))
    except OverflowError:
        power = np.float32(np.inf)
    with np.errstate(over="ignore"):
        return float(np.float32(1) / (np.float32(1) + power))


def _wrap(value: Integers) -> Integers:
    return (value + 2**31) % 2**32 - 2**31


def hyperbolic_tangent(x: float) -> float:
    """Return the hyperbolic tangent of a float32, rounded to float32."""
    return float(np.float32(math.tanh(float(x))))
