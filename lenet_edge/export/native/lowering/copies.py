"""Operators that move numbers: reshapes, CONCATENATION and PAD."""

from __future__ import annotations

import numpy as np

from lenet_edge.export.native.coverage import concatenation_axis, constant_numbers
from lenet_edge.export.native.lowering.builder import Builder
from lenet_edge.export.native.lowering.steps import NO_BORDER, Buffer, Place
from lenet_edge.export.native.passes import pad_value
from lenet_edge.export.native.tflite_graph import Operator


def reshape(builder: Builder, operator: Operator) -> None:
    """Add a reshape: the same bytes under another shape, or a copy where borders differ."""
    source, tensor = builder.source(operator), operator.output
    border = builder.borders.get(id(tensor), NO_BORDER)
    is_output = tensor in builder.graph.outputs
    if any(source.border):
        target = builder.in_arena(operator.input())
        target.border = NO_BORDER
        builder.copy(operator.input(), source, target, builder.comment(operator))
        source = target
    if any(border) or (is_output and source.place == "input"):
        target = builder.target(operator)
        strides = (
            builder.strides(tensor, builder.new_buffer(tensor)),
            builder.strides(tensor, target),
        )
        builder.walk("copy", tensor.shape, strides,
                     (Place(source, source.origin), builder.origin(target)),
                     builder.comment(operator), bytes_each=target.item)  # fmt: skip
        return
    builder.storage[id(tensor)] = builder.alias(source, tensor)


def concatenation(builder: Builder, operator: Operator) -> None:
    """Add a CONCATENATION: a copy of each input to its part of the output."""
    target, output = builder.target(operator), operator.output
    axis = concatenation_axis(operator)
    outs = builder.strides(output, target)
    begin = target.origin
    for number, tensor in enumerate(operator.inputs):
        assert tensor is not None
        source = builder.source(operator, number)
        strides = builder.strides(tensor, source), outs
        places = builder.origin(source), Place(target, begin)
        comment = builder.comment(operator) if number == 0 else ""
        builder.walk("copy", tensor.shape, strides, places, comment, bytes_each=target.item)
        begin += tensor.shape[axis] * outs[axis]


def pad(builder: Builder, operator: Operator) -> None:
    """Add a PAD: fill the whole output, then copy the input into its middle."""
    source, target = builder.source(operator), builder.target(operator)
    tensor, output = operator.input(), operator.output
    amounts = constant_numbers(operator.input(1)) or []
    outs = builder.strides(output, target)
    comment = builder.comment(operator)
    value = pad_value(operator)
    if target.is_float:
        fill = builder.array("float", f"layer{operator.place}_value", np.array([value], np.float32))
    else:
        fill = builder.array("int8_t", f"layer{operator.place}_value", np.array([value], np.int8))
    constant = Buffer(target.is_float, 1, 1, 1, 1, place="constant", base=fill)
    kernel = "spread_float" if target.is_float else "spread"
    builder.walk(kernel, output.shape, ([0] * len(outs), outs),
                 (Place(constant), builder.origin(target)), comment)  # fmt: skip
    begin = target.origin + sum(amounts[2 * n] * stride for n, stride in enumerate(outs))
    strides = builder.strides(tensor, source), outs
    places = builder.origin(source), Place(target, begin)
    builder.walk("copy", tensor.shape, strides, places, "", bytes_each=target.item)
