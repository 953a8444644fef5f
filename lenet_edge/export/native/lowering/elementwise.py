"""Operators on single numbers: ADD, SUB, MUL, activations, SOFTMAX and quantization."""

from __future__ import annotations

from lenet_edge.export.native import fixed_point
from lenet_edge.export.native.lowering.builder import Builder, merged_loops
from lenet_edge.export.native.lowering.integers import (
    binary_scales,
    float_limits,
    output_limits,
    table_of,
)
from lenet_edge.export.native.lowering.steps import KernelCall
from lenet_edge.export.native.passes import stored_zero
from lenet_edge.export.native.text import c_float
from lenet_edge.export.native.tflite_graph import Operator


def binary(builder: Builder, operator: Operator) -> None:
    """Add an ADD, a SUB or a MUL. An axis of length 1 repeats: its step is 0."""
    sources = [builder.source(operator, number) for number in (0, 1)]
    target, output = builder.target(operator), operator.output
    comment = builder.comment(operator)
    strides = []
    for number, source in enumerate(sources):
        tensor = operator.input(number)
        missing = len(output.shape) - len(tensor.shape)
        own = builder.strides(tensor, source)
        strides.append(
            [
                0 if axis < missing or tensor.shape[axis - missing] == 1 else own[axis - missing]
                for axis in range(len(output.shape))
            ]
        )
    strides.append(builder.strides(output, target))
    sizes, (a_steps, b_steps, outs) = merged_loops(output.shape, strides, comment)
    fields: dict[str, object] = {
        "sizes": sizes[:3], "a_steps": a_steps[:3], "b_steps": b_steps[:3],
        "out_steps": outs[:3], "count": sizes[3], "a_step": a_steps[3], "b_step": b_steps[3],
    }  # fmt: skip
    places = [builder.origin(buffer) for buffer in (*sources, target)]
    kernel = "multiply" if operator.kind == "MUL" else "add"
    before: list[object] = [] if operator.kind == "MUL" else [1 if operator.kind == "ADD" else -1]
    if target.is_float:
        fields |= float_limits(operator)
        struct = builder.struct("elements_float", fields)
        kernel += "_float"
    else:
        low, high = output_limits(operator)
        fields |= {"low": low, "high": high, "zero": stored_zero(output)}
        fields |= binary_scales(operator)
        struct = builder.struct("elements", fields)
    builder.program.calls.append(KernelCall(kernel, (struct, *before, *places), comment))


def unary(builder: Builder, operator: Operator) -> None:
    """Add an activation: in int8, a table of all 256 results."""
    source, target = builder.source(operator), builder.target(operator)
    tensor, output = operator.input(), operator.output
    strides = builder.strides(tensor, source), builder.strides(output, target)
    places = builder.origin(source), builder.origin(target)
    comment = builder.comment(operator)
    if source.is_float:
        alpha = float(getattr(operator.options, "alpha", 0) or 0)
        kernel = f"{operator.kind.lower()}_float"
        before = [c_float(alpha)] if operator.kind == "LEAKY_RELU" else []
        builder.walk(kernel, tensor.shape, strides, places, comment, before)
        return
    table = builder.array("int8_t", f"layer{operator.place}_table", table_of(operator))
    builder.walk("look_up", tensor.shape, strides, places, comment, [table])


def quantize(builder: Builder, operator: Operator) -> None:
    """Add a QUANTIZE or a DEQUANTIZE. Between integers, it is a table too."""
    tensor, output = operator.input(), operator.output
    if tensor.dtype != "float32" and output.dtype != "float32":
        unary(builder, operator)
        return
    source, target = builder.source(operator), builder.target(operator)
    strides = builder.strides(tensor, source), builder.strides(output, target)
    places = builder.origin(source), builder.origin(target)
    kernel = "quantize" if output.dtype != "float32" else "dequantize"
    quantized = output if kernel == "quantize" else tensor
    before = [c_float(quantized.scale), stored_zero(quantized)]
    builder.walk(kernel, tensor.shape, strides, places, builder.comment(operator), before)


def softmax(builder: Builder, operator: Operator) -> None:
    """Add a SOFTMAX over the last axis."""
    source, target = builder.source(operator), builder.target(operator)
    tensor = operator.input()
    count = tensor.shape[-1] if tensor.shape else 1
    comment, beta = builder.comment(operator), float(operator.options.beta)
    ins, outs = builder.strides(tensor, source), builder.strides(tensor, target)
    sizes, (in_steps, out_steps) = merged_loops(
        tensor.shape[:-1], [ins[:-1], outs[:-1]], comment, 3
    )
    fields: dict[str, object] = {
        "sizes": sizes, "in_steps": in_steps, "out_steps": out_steps, "count": count
    }  # fmt: skip
    walk = builder.struct("walk", fields)
    places = builder.origin(source), builder.origin(target)
    if source.is_float:
        arguments = (walk, c_float(beta), *places)
        builder.program.calls.append(KernelCall("softmax_float", arguments, comment))
        return
    table = builder.array("int32_t", f"layer{operator.place}_exponentials",
                          fixed_point.exponentials(beta, tensor.scale))  # fmt: skip
    builder.program.calls.append(KernelCall("softmax", (walk, table, *places), comment))
