"""Operators over windows and axes: pools, MEAN and RESIZE_NEAREST_NEIGHBOR."""

from __future__ import annotations

import math

import numpy as np

from lenet_edge.export.native import fixed_point
from lenet_edge.export.native.coverage import geometry, mean_axes, strides_of, window_of
from lenet_edge.export.native.lowering.builder import Builder, merged_loops
from lenet_edge.export.native.lowering.integers import float_limits, output_limits, wrap_32_bits
from lenet_edge.export.native.lowering.steps import KernelCall, Place, Values
from lenet_edge.export.native.passes import stored_zero
from lenet_edge.export.native.tflite_graph import Operator


def pool(builder: Builder, operator: Operator) -> None:
    """Add a MAX_POOL_2D or an AVERAGE_POOL_2D."""
    source, target = builder.source(operator), builder.target(operator)
    (_, padding), window, stride = geometry(operator), window_of(operator), strides_of(operator)
    fields: dict[str, object] = {
        "rows": target.rows, "cols": target.cols, "channels": target.channels,
        "in_rows": source.rows, "in_cols": source.cols,
        "window_rows": window[0], "window_cols": window[1],
        "stride_rows": stride[0], "stride_cols": stride[1],
        "above": padding[0], "left": padding[2],
        "in_line": source.line, "in_step": source.step,
        "out_line": target.line, "out_step": target.step,
    }  # fmt: skip
    kernel = "max_pool" if operator.kind == "MAX_POOL_2D" else "average_pool"
    if source.is_float:
        fields |= float_limits(operator)
        struct = builder.struct("pool_float", fields)
        kernel += "_float"
    else:
        low, high = output_limits(operator)
        offset = 128 if operator.input().dtype == "uint8" else 0
        fields |= {"low": low, "high": high, "offset": offset}
        struct = builder.struct("pool", fields)
    places = (Place(source, source.origin, source.batch),
              Place(target, target.origin, target.batch))  # fmt: skip
    detail = f", windows of {window[0]} x {window[1]}"
    builder.program.calls.append(
        KernelCall(kernel, (struct, *places), builder.comment(operator, detail), target.batches)
    )


def mean(builder: Builder, operator: Operator) -> None:
    """Add a MEAN: loops over the axes that stay, around loops over the others."""
    source, target = builder.source(operator), builder.target(operator)
    tensor, output = operator.input(), operator.output
    axes = mean_axes(operator)
    ins = builder.strides(tensor, source)
    outs_all = builder.strides(output, target)
    if len(output.shape) != len(tensor.shape):
        kept = iter(outs_all)
        outs = [0 if axis in axes else next(kept) for axis in range(len(tensor.shape))]
    else:
        outs = outs_all
    stay = [axis for axis in range(len(tensor.shape)) if axis not in axes]
    shape = tensor.shape
    comment = builder.comment(operator)
    sizes, (in_steps, out_steps) = merged_loops(
        [shape[a] for a in stay], [[ins[a] for a in stay], [outs[a] for a in stay]], comment, 3
    )
    over, (over_steps,) = merged_loops(
        [shape[a] for a in axes], [[ins[a] for a in axes]], comment, 3
    )
    fields: dict[str, object] = {
        "sizes": sizes, "in_steps": in_steps, "out_steps": out_steps,
        "over": over, "over_steps": over_steps,
    }  # fmt: skip
    places = builder.origin(source), builder.origin(target)
    count = math.prod(shape[axis] for axis in axes)
    if source.is_float:
        struct = builder.struct("mean_float", {**fields, "count": float(count)})
        builder.program.calls.append(KernelCall("mean_float", (struct, *places), comment))
        return
    multiplier, shift = fixed_point.mean_multiplier(tensor.scale / output.scale, count)
    fields |= {
        "bias": int(wrap_32_bits(np.array(-stored_zero(tensor) * count))),
        "multiplier": multiplier, "shift": shift,
        "zero": stored_zero(output), "low": -128, "high": 127,
    }  # fmt: skip
    struct = builder.struct("mean", fields)
    builder.program.calls.append(KernelCall("mean", (struct, *places), comment))


def resize(builder: Builder, operator: Operator) -> None:
    """Add a RESIZE_NEAREST_NEIGHBOR, with a table of input rows and one of columns."""
    source, target = builder.source(operator), builder.target(operator)
    options, name = operator.options, f"layer{operator.place}"
    indices = [
        nearest_indices(before, after, bool(options.alignCorners), bool(options.halfPixelCenters))
        for before, after in ((source.rows, target.rows), (source.cols, target.cols))
    ]
    item = target.item
    fields: dict[str, object] = {
        "rows": target.rows, "cols": target.cols, "pixel": target.channels * item,
        "in_line": source.line * item, "out_line": target.line * item,
        "out_step": target.step * item,
        "in_rows": builder.array("int16_t", f"{name}_rows", indices[0]),
        "in_cols": builder.array("int16_t", f"{name}_cols", indices[1]),
    }  # fmt: skip
    struct = builder.struct("resize", fields)
    places = (Place(source, source.origin, source.batch),
              Place(target, target.origin, target.batch))  # fmt: skip
    builder.program.calls.append(
        KernelCall("resize", (struct, *places), builder.comment(operator), target.batches)
    )


def nearest_indices(before: int, after: int, aligned: bool, centred: bool) -> Values:
    """Return the input index of each output index of a resize, in TensorFlow Lite's floats."""
    f = np.float32
    scale = f(before - 1) / f(after - 1) if aligned and after > 1 else f(before) / f(after)
    offset = f(0.5) if centred else f(0)
    indices = []
    for position in range(after):
        place = float((f(position) + offset) * scale)
        index = math.floor(place + 0.5) if aligned else math.floor(place)
        index = min(index, before - 1)
        indices.append(max(index, 0) if centred else index)
    return np.array(indices, np.int16)
