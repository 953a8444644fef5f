"""Numbers that the kernels compute with: limits, multipliers and tables of results."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lenet_edge.errors import ModelFileError
from lenet_edge.export.native import fixed_point
from lenet_edge.export.native.coverage import RELU, RELU6, RELU_N1_TO_1, geometry
from lenet_edge.export.native.lowering.steps import Border, Values
from lenet_edge.export.native.passes import stored_zero
from lenet_edge.export.native.tflite_graph import Operator, Tensor

GROUP = 4  # input bytes that belong together, and the multiple to which outputs are padded
_FLOAT_LIMITS = {
    RELU: ("0.0f", "INFINITY_F"),
    RELU6: ("0.0f", "6.0f"),
    RELU_N1_TO_1: ("-1.0f", "1.0f"),
}


def padding_of(operator: Operator) -> Border:
    """Return the padding of a convolution or a pool: above, below, left, right."""
    return operator.padding or geometry(operator)[1]


def round_up(count: int) -> int:
    """Return a number of outputs or bytes, rounded up to whole groups."""
    return -(-count // GROUP) * GROUP


def pad_outputs(values: Values, dtype: np.dtype[Any]) -> Values:
    """Return values of outputs, with zeros up to whole groups."""
    padded = np.zeros(round_up(len(values)), dtype)
    padded[: len(values)] = values
    return padded


def wrap_32_bits(values: Values) -> Values:
    """Return integers as 32 bits hold them."""
    return (values + 2**31) % 2**32 - 2**31


def stored_values(tensor: Tensor) -> Values:
    """Return the values of a constant as the C file stores them."""
    assert tensor.values is not None
    offset = 128 if tensor.dtype == "uint8" else 0
    return (tensor.values.astype(np.int16) - offset).astype(np.int8)


def centred_weights(weights: Tensor) -> Values:
    """Return weights minus their zero point."""
    assert weights.values is not None
    return weights.values.astype(np.int64) - (weights.zero if weights.dtype == "uint8" else 0)


def output_limits(operator: Operator) -> tuple[int, int]:
    """Return the smallest and the largest integer of an output, with the pool behind it."""
    low, high = _activation_limits(operator.output, operator.activation)
    if operator.pool is not None:
        other_low, other_high = _activation_limits(operator.output, operator.pool.activation)
        low, high = max(low, other_low), min(high, other_high)
    return low, high


def _activation_limits(output: Tensor, activation: int) -> tuple[int, int]:
    real = {
        RELU: (0.0, None), RELU6: (0.0, 6.0), RELU_N1_TO_1: (-1.0, 1.0)
    }.get(activation, (None, None))  # fmt: skip
    low, high = (
        None if limit is None else stored_zero(output) + _rounded_division(limit, output.scale)
        for limit in real
    )
    return max(-128, -128 if low is None else low), min(127, 127 if high is None else high)


def _rounded_division(value: float, scale: float) -> int:
    quotient = float(np.float32(value) / np.float32(scale))
    return math.floor(abs(quotient) + 0.5) * (1 if quotient >= 0 else -1)


def float_limits(operator: Operator) -> dict[str, object]:
    """Return the limits of a float output, with the pool behind it, as C text."""
    pairs = [_FLOAT_LIMITS.get(operator.activation, ("-INFINITY_F", "INFINITY_F"))]
    if operator.pool is not None:
        pairs.append(_FLOAT_LIMITS.get(operator.pool.activation, ("-INFINITY_F", "INFINITY_F")))
    lows = [low for low, _ in pairs if low != "-INFINITY_F"]
    highs = [high for _, high in pairs if high != "INFINITY_F"]
    return {
        "low": max(lows, key=_number, default="-INFINITY_F"),
        "high": min(highs, key=_number, default="INFINITY_F"),
    }


def _number(text: str) -> float:
    return float(text.removesuffix("f"))


def multipliers_of(
    operator: Operator, low: int, high: int, values: Values, bias: Values
) -> list[tuple[int, int]]:
    """Return multiplier and shift of each output of an operator with weights.

    Args:
        operator: the operator.
        low: the smallest integer of the output.
        high: the largest integer of the output.
        values: the weights minus their zero point.
        bias: the bias of the file.

    Raises:
        ModelFileError: no multiplier gives the rounding of a dense layer.
    """
    source, weights, output = operator.input(), operator.input(1), operator.output
    outputs = weights.shape[-1 if operator.kind == "DEPTHWISE_CONV_2D" else 0]
    scales = [source.scale * scale / output.scale for scale in weights.scales]
    if operator.kind != "FULLY_CONNECTED":
        if source.dtype == "uint8":
            product = float(np.float32(source.scale) * np.float32(weights.scale))
            scales = [product / output.scale]
        pairs = [fixed_point.quantize_multiplier(scale) for scale in scales]
    else:
        zero, in_zero = stored_zero(output), stored_zero(source)
        scales = scales if len(scales) > 1 else scales * outputs
        lowest, highest = values * (-128 - in_zero), values * (127 - in_zero)
        least = np.minimum(lowest, highest).sum(axis=(1, 2)) + bias
        most = np.maximum(lowest, highest).sum(axis=(1, 2)) + bias
        pairs = []
        for scale, sums in zip(
            scales, zip(least.tolist(), most.tolist(), strict=True), strict=True
        ):
            results = (low - zero, high - zero)
            pair = fixed_point.single_rounding_multiplier(scale, results, sums)
            if pair is None:
                raise ModelFileError(
                    f"{operator.described} has the scale {scale:g}, which the native format does"
                    " not cover; quantize the model again"
                )
            pairs.append(pair)
    return pairs if len(pairs) > 1 else pairs * outputs


def lifts_of(shifts: Values, most: Values, keeps_order: bool) -> Values | None:
    """Return factors for the sums of each output, after which all need the same shift.

    WebAssembly shifts all lanes of a vector alike.

    Args:
        shifts: the left shift of each output, with padding.
        most: the largest absolute sum of each output.
        keeps_order: whether negative results round as positive ones, or become the zero point.

    Returns:
        Powers of two; None if a sum would not fit 32 bits, or a shift is too small.
    """
    used = -shifts[: len(most)].astype(np.int64)
    if not keeps_order or used.min() < 2 or used.max() > 30:
        return None
    lifts = np.ones(len(shifts), np.int64)
    lifts[: len(most)] = 1 << (used.max() - used)
    if (lifts[: len(most)] * most >= 2**31).any():
        return None
    return lifts.astype(np.int32)


def binary_scales(operator: Operator) -> dict[str, object]:
    """Return zero points, multipliers and shifts of an ADD, SUB or MUL."""
    a, b, output = operator.input(0), operator.input(1), operator.output
    fields: dict[str, object] = {"a_zero": stored_zero(a), "b_zero": stored_zero(b)}
    if operator.kind == "MUL":
        product = np.float32(a.scale) * np.float32(b.scale) / np.float32(output.scale)
        pairs = {"": fixed_point.quantize_multiplier(float(product))}
    else:
        pairs = fixed_point.sum_multipliers(a.scale, b.scale, output.scale)
    for prefix, (multiplier, shift) in pairs.items():
        fields |= {f"{prefix}multiplier": multiplier, f"{prefix}shift": shift}
    return fields


def table_of(operator: Operator) -> Values:
    """Return the result of an int8 function for every integer from -128 to 127."""
    source, output = operator.input(), operator.output
    zero, out_zero = stored_zero(source), stored_zero(output)
    ratio = float(np.float32(source.scale) / np.float32(output.scale))
    kind = operator.kind
    if kind in ("LOGISTIC", "TANH"):
        function = fixed_point.logistic if kind == "LOGISTIC" else fixed_point.hyperbolic_tangent
        low = 0 if source.dtype == "uint8" else -128
        table = fixed_point.table_of(
            function, source.scale, source.zero, output.scale, output.zero, low
        )
        return np.array([value - (128 if low == 0 else 0) for value in table], np.int8)
    if kind == "QUANTIZE":
        ratio = source.scale / output.scale
    identity = fixed_point.quantize_multiplier(ratio)
    low, high = {
        "RELU": _activation_limits(output, RELU),
        "RELU6": _activation_limits(output, RELU6),
        "RELU_N1_TO_1": _activation_limits(output, RELU_N1_TO_1),
        "RELU_0_TO_1": (
            max(-128, out_zero),
            min(127, out_zero + _rounded_division(1.0, output.scale)),
        ),
    }.get(kind, (-128, 127))
    alpha = (0, 0)
    if kind == "LEAKY_RELU":
        slope = np.float32(source.scale) * np.float32(operator.options.alpha)
        alpha = fixed_point.quantize_multiplier(float(slope / np.float32(output.scale)))
    values = []
    for integer in range(-128, 128):
        multiplier, shift = alpha if kind == "LEAKY_RELU" and integer < zero else identity
        sign = -1 if multiplier < 0 else 1
        scaled = sign * fixed_point.scale_twice(integer - zero, abs(multiplier), shift)
        values.append(min(max(scaled + out_zero, low), high))
    return np.array(values, np.int8)
