"""Operators with weights: convolutions, depthwise convolutions and dense layers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lenet_edge.export.native.coverage import RESHAPES, dilations_of, strides_of, window_of
from lenet_edge.export.native.lowering.builder import Builder
from lenet_edge.export.native.lowering.integers import (
    GROUP,
    centred_weights,
    float_limits,
    lifts_of,
    multipliers_of,
    output_limits,
    pad_outputs,
    padding_of,
    round_up,
    wrap_32_bits,
)
from lenet_edge.export.native.lowering.steps import (
    NO_BORDER,
    Buffer,
    KernelCall,
    Place,
    Values,
)
from lenet_edge.export.native.passes import CONVOLUTIONS, stored_zero
from lenet_edge.export.native.tflite_graph import Operator, Tensor


def convolution(builder: Builder, operator: Operator) -> None:
    """Add a CONV_2D, with the max-pool that it does."""
    source, target = builder.source(operator), builder.target(operator)
    begin, steps = _window(builder, operator, source)
    weights = operator.input(1)
    filters, rows, cols, channels = weights.shape
    window, strides = (1, 1), (1, 1)
    if operator.pool is not None:
        window, strides = window_of(operator.pool), strides_of(operator.pool)
    is_split = dilations_of(operator)[1] != 1 and cols != 1
    fields: dict[str, object] = {
        "rows": target.rows, "cols": target.cols,
        "filters": filters,
        "run_rows": rows, "run_cols": cols if is_split else 1,
        "run_row_step": steps["row_reach"], "run_col_step": steps["col_reach"] * is_split,
        "run_bytes": channels if is_split else cols * channels,
        "row_step": steps["row_step"], "col_step": steps["col_step"],
        "pool_rows": window[0], "pool_cols": window[1],
        "pool_row_step": strides[0] * steps["row_step"],
        "pool_col_step": strides[1] * steps["col_step"],
        "out_line": target.line, "out_step": target.step,
    }  # fmt: skip
    runs = (rows * cols, channels) if is_split else (rows, cols * channels)
    detail = f", {rows} x {cols} weights"
    detail += f", pool {window[0]} x {window[1]}" if operator.pool else ""
    if source.is_float:
        fields["run_bytes"] = runs[1]
        _float_weights(builder, operator, "convolution", fields, detail, begin, target,
                       lambda values: values.reshape(filters, *runs).transpose(1, 2, 0)
                       )  # fmt: skip
        return
    values = centred_weights(weights).reshape(filters, *runs)
    fields["run_groups"] = -(-runs[1] // GROUP)
    _weighted(builder, operator, "convolution", "convolve", fields, values, begin, target, detail)


def depthwise(builder: Builder, operator: Operator) -> None:
    """Add a DEPTHWISE_CONV_2D."""
    source, target = builder.source(operator), builder.target(operator)
    begin, steps = _window(builder, operator, source)
    weights = operator.input(1)
    _, rows, cols, channels = weights.shape
    fields: dict[str, object] = {
        "rows": target.rows, "cols": target.cols, "channels": channels,
        "multiplier": channels // source.channels,
        "kernel_rows": rows, "kernel_cols": cols,
        "kernel_row_step": steps["row_reach"], "kernel_col_step": steps["col_reach"],
        "row_step": steps["row_step"], "col_step": steps["col_step"],
        "out_line": target.line, "out_step": target.step,
    }  # fmt: skip
    detail = f", {rows} x {cols} weights"
    if source.is_float:
        _float_weights(builder, operator, "depthwise", fields, detail, begin, target,
                       lambda values: values.reshape(rows * cols, channels))  # fmt: skip
        return
    values = centred_weights(weights).reshape(rows * cols, channels)
    _weighted(builder, operator, "depthwise", "depthwise", fields, values, begin, target, detail)


def dense(builder: Builder, operator: Operator) -> None:
    """Add a FULLY_CONNECTED, once for each image of the batch."""
    source, target = builder.source(operator), builder.target(operator)
    if any(source.border):
        flat = builder.in_arena(operator.input())
        flat.border = NO_BORDER
        builder.copy(operator.input(), source, flat, builder.comment(operator))
        source = flat
    weights = operator.input(1)
    outputs, inputs = weights.shape
    images = operator.input().size // inputs
    begin, end = Place(source, 0, inputs), Place(target, 0, outputs)
    if source.is_float:
        _float_weights(builder, operator, "dense", {"inputs": inputs, "outputs": outputs}, "",
                       begin, target, lambda values: values.T, end, images)  # fmt: skip
        return
    fields: dict[str, object] = {
        "outputs": outputs,
        "groups": -(-inputs // GROUP),
        "in_zero": stored_zero(operator.input()),
    }
    values = centred_weights(weights).reshape(outputs, 1, inputs)
    _weighted(builder, operator, "dense", "dense", fields, values, begin, target, "", end, images)


def _window(builder: Builder, operator: Operator, source: Buffer) -> tuple[Place, dict[str, int]]:
    """Return where a convolution begins to read, and its steps through the input."""
    above, _, left, _ = padding_of(operator)
    begin = source.origin - above * source.line - left * source.step
    stride, dilation = strides_of(operator), dilations_of(operator)
    steps = {
        "row_step": stride[0] * source.line,
        "col_step": stride[1] * source.step,
        "row_reach": dilation[0] * source.line,
        "col_reach": dilation[1] * source.step,
    }
    return Place(source, begin, source.batch), steps


def _weighted(
    builder: Builder,
    operator: Operator,
    kind: str,
    kernel: str,
    fields: dict[str, object],
    values: Values,
    begin: Place,
    target: Buffer,
    detail: str,
    end: Place | None = None,
    images: int | None = None,
) -> None:
    """Add the arrays, the struct and the call of an int8 operator with weights.

    `values` are the weights minus their zero point: [output][run][byte] or [position][channel].
    """
    source, output = operator.input(), operator.output
    name = f"layer{operator.place}"
    if kind == "depthwise":
        sums, outputs = values.sum(axis=0), values.shape[1]
        packed = np.zeros((values.shape[0], round_up(outputs)), np.int64)
        packed[:, :outputs] = values
    else:
        outputs, runs, length = values.shape
        sums = values.sum(axis=(1, 2))
        full = np.zeros((round_up(outputs), runs, round_up(length)), np.int64)
        full[:outputs, :, :length] = values
        grouped = full.reshape(len(full), runs, -1, GROUP)
        packed = grouped.transpose(1, 2, 0, 3)
    low, high = output_limits(operator)
    bias = operator.inputs[2] if len(operator.inputs) > 2 else None
    file_bias = np.zeros(outputs, np.int64)
    if bias is not None and bias.values is not None:
        file_bias = bias.values.astype(np.int64).ravel()
    zero = stored_zero(source)
    pairs = multipliers_of(operator, low, high, values, file_bias)
    if kind == "dense" and _fits_int4(operator, values, pairs, file_bias):
        # The kernel leaves each weight in the upper half of its byte, times 16.
        kernel, packed = f"{kernel}_int4", _pairs_of_groups(packed)
        values, sums, file_bias = 16 * values, 16 * sums, 16 * file_bias
        pairs = [(multiplier, shift - 4) for multiplier, shift in pairs]
    multipliers, shifts = (
        pad_outputs(np.array(side, np.int64), np.dtype(dtype))
        for side, dtype in zip(zip(*pairs, strict=True), ("int32", "int8"), strict=True)
    )
    # NEON adds two products in 16 bits, which overflow only if both weights are -128. Such outputs
    # get 16-bit weights, as do uint8 weights that do not fit 8 bits without their zero point.
    lowest = (values == -128).sum(axis=0 if kind == "depthwise" else (1, 2))
    is_wide = bool(
        values.min(initial=0) < -128 or values.max(initial=0) > 127 or lowest.max(initial=0) > 1
    )
    fields["padded"] = round_up(outputs)
    in_low = _smallest_value(builder, source)
    fields["in_low"] = in_low
    fields |= {"zero": stored_zero(output), "low": low, "high": high}
    if is_wide:
        kernel = f"{kernel}_wide"
        fields["wide"] = builder.array("int16_t", f"{name}_weights", packed.astype(np.int16))
    else:
        fields["weights"] = builder.array("int8_t", f"{name}_weights", packed.astype(np.int8))
    folded = wrap_32_bits(file_bias - zero * sums)  # the zero point of the input is in the bias
    fields["bias"] = builder.array(
        "int32_t", f"{name}_bias", pad_outputs(folded, np.dtype("int32"))
    )
    fields["multipliers"] = builder.array("int32_t", f"{name}_multipliers", multipliers)
    fields["shifts"] = builder.array("int8_t", f"{name}_shifts", shifts)
    guarded = {}
    if not is_wide:
        unsigned = pad_outputs(wrap_32_bits(file_bias - (zero - in_low) * sums), np.dtype("int32"))
        builder.array("int32_t", f"{name}_unsigned_bias", unsigned, "CHOOSE_X86")
        guarded["unsigned_bias"] = ("CHOOSE_X86", f"{name}_unsigned_bias")
        if kind == "dense":
            plain = pad_outputs(wrap_32_bits(file_bias), np.dtype("int32"))
            builder.array("int32_t", f"{name}_file_bias", plain, "CORTEX_M")
            guarded["file_bias"] = ("CORTEX_M", f"{name}_file_bias")
        by_output = values if kind == "depthwise" else values.transpose(1, 2, 0)
        farthest = max(zero - in_low, 127 - zero)
        most = np.abs(by_output).reshape(-1, outputs).sum(axis=0) * farthest + np.abs(file_bias)
        lifts = lifts_of(shifts, most, kind == "dense" or low >= stored_zero(output))
        if lifts is not None:
            builder.array("int32_t", f"{name}_lifts", lifts, "__wasm_simd128__")
            guarded["lifts"] = ("__wasm_simd128__", f"{name}_lifts")
            guarded["shift"] = ("__wasm_simd128__", str(-int(shifts[:outputs].min())))
    struct = builder.struct(kind, fields, guarded)
    end = end or Place(target, target.origin, target.batch)
    images = target.batches if images is None else images
    comment = builder.comment(operator, detail)
    builder.program.calls.append(KernelCall(kernel, (struct, begin, end), comment, images))


def _fits_int4(
    operator: Operator, values: Values, pairs: list[tuple[int, int]], bias: Values
) -> bool:
    """Return whether the kernel for int4 weights computes a dense layer exactly."""
    reach = np.abs(values).sum(axis=(1, 2)) * 256 + np.abs(bias)
    return (
        operator.input(1).is_int4
        and operator.input().values is None  # the kernel reads a group behind the last one
        and bool(16 * reach.max() < 2**31)
        and min(shift for _, shift in pairs) >= -27
        and bool((values == -8).sum(axis=(1, 2)).max() <= 1)  # see the comment on NEON
    )


def _pairs_of_groups(groups: Values) -> Values:
    """Return two groups of int4 weights in the bytes of one; the lower halves are the first."""
    _, count, outputs, _ = groups.shape
    even = np.zeros((1, count + count % 2, outputs, GROUP), np.int64)
    even[:, :count] = groups
    return np.asarray(even[:, 0::2] & 15 | even[:, 1::2] << 4)


def _smallest_value(builder: Builder, tensor: Tensor) -> int:
    """Return the smallest integer that a tensor can hold."""
    producer = builder.graph.producer(tensor)
    while producer is not None and producer.kind in RESHAPES:
        tensor = producer.input()
        producer = builder.graph.producer(tensor)
    if producer is None or producer.kind not in (*CONVOLUTIONS, "FULLY_CONNECTED"):
        return -128
    return output_limits(producer)[0]


def _float_weights(
    builder: Builder,
    operator: Operator,
    kind: str,
    fields: dict[str, object],
    detail: str,
    begin: Place,
    target: Buffer,
    arrange: Callable[[Values], Values],
    end: Place | None = None,
    images: int | None = None,
) -> None:
    """Add the arrays, the struct and the call of a float operator with weights."""
    weights = operator.input(1)
    assert weights.values is not None
    packed = np.ascontiguousarray(arrange(weights.values.astype(np.float32)))
    outputs = packed.shape[-1]
    bias = operator.inputs[2] if len(operator.inputs) > 2 else None
    offsets = np.zeros(outputs, np.float32)
    if bias is not None and bias.values is not None:
        offsets = bias.values.astype(np.float32).ravel()
    name = f"layer{operator.place}"
    fields["weights"] = builder.array("float", f"{name}_weights", packed)
    fields["bias"] = builder.array("float", f"{name}_bias", offsets)
    fields |= float_limits(operator)
    struct = builder.struct(f"{kind}_float", fields)
    end = end or Place(target, target.origin, target.batch)
    images = target.batches if images is None else images
    kernel = {"convolution": "convolve_float"}.get(kind, f"{kind}_float")
    comment = builder.comment(operator, detail)
    builder.program.calls.append(KernelCall(kernel, (struct, begin, end), comment, images))
