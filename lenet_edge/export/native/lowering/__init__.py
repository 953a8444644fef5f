"""Translation of a .tflite graph to the steps of a C file.

`builder` holds the program under construction. `weighted`, `images`, `elementwise` and `copies` add
the steps of the operators, with numbers from `integers`. `steps` has the types of the result.
"""

from __future__ import annotations

from collections.abc import Callable

from lenet_edge.export.native.arena import Region
from lenet_edge.export.native.coverage import RESHAPES
from lenet_edge.export.native.lowering import copies, elementwise, images, weighted
from lenet_edge.export.native.lowering.builder import Builder
from lenet_edge.export.native.lowering.steps import Program
from lenet_edge.export.native.passes import CONVOLUTIONS
from lenet_edge.export.native.tflite_graph import Operator, OperatorGraph, Tensor

# Any other operator is an activation, which `elementwise.unary` lowers.
_LOWERINGS: dict[str, Callable[[Builder, Operator], None]] = {
    "CONV_2D": weighted.convolution,
    "DEPTHWISE_CONV_2D": weighted.depthwise,
    "FULLY_CONNECTED": weighted.dense,
    "MAX_POOL_2D": images.pool,
    "AVERAGE_POOL_2D": images.pool,
    "MEAN": images.mean,
    "RESIZE_NEAREST_NEIGHBOR": images.resize,
    "ADD": elementwise.binary,
    "SUB": elementwise.binary,
    "MUL": elementwise.binary,
    "SOFTMAX": elementwise.softmax,
    "QUANTIZE": elementwise.quantize,
    "DEQUANTIZE": elementwise.quantize,
    "CONCATENATION": copies.concatenation,
    "PAD": copies.pad,
    "PADV2": copies.pad,
    **dict.fromkeys(RESHAPES, copies.reshape),
}


def lower(graph: OperatorGraph) -> Program:
    """Return the program of a graph that has been checked and optimized.

    Raises:
        ModelFileError: an operator needs more axes than the kernels have.
    """
    builder = Builder(graph)
    for number, tensor in enumerate(builder.graph.inputs):
        _bring_in(builder, tensor, number)
    for operator in builder.graph.operators:
        _LOWERINGS.get(operator.kind, elementwise.unary)(builder, operator)
    for number, tensor in enumerate(builder.graph.outputs):
        _bring_out(builder, tensor, number)
    _set_lives(builder.program)
    return builder.program


def _bring_in(builder: Builder, tensor: Tensor, number: int) -> None:
    """Use the caller's array, or copy it where a kernel may read beyond its end."""
    outside = builder.new_buffer(tensor, place="input", base=f"in{number}")
    consumers = builder.graph.consumers(tensor)
    reads_beyond = any(
        operator.kind in (*CONVOLUTIONS, "FULLY_CONNECTED", *RESHAPES) for operator in consumers
    )
    is_float = tensor.dtype == "float32"
    has_border = id(tensor) in builder.borders and any(builder.borders[id(tensor)])
    if tensor.dtype != "uint8" and not has_border and (is_float or not reads_beyond):
        builder.storage[id(tensor)] = outside
        return
    if not consumers and tensor not in builder.graph.outputs:
        return
    inside = builder.in_arena(tensor)
    builder.storage[id(tensor)] = inside
    builder.copy(tensor, outside, inside, f"the input {tensor.name}", tensor.dtype == "uint8")


def _bring_out(builder: Builder, tensor: Tensor, number: int) -> None:
    buffer = builder.storage_of(tensor)
    if buffer.place == "output" and buffer.base == f"out{number}":
        return
    outside = builder.new_buffer(tensor, place="output", base=f"out{number}")
    builder.copy(tensor, buffer, outside, f"the output {tensor.name}", tensor.dtype == "uint8")


def _set_lives(program: Program) -> None:
    """Set the first and the last step that use each buffer; remove buffers without use."""
    for step, call in enumerate(program.calls):
        for buffer in program.used_in(call):
            if buffer.region is None:
                buffer.region = Region(buffer.size, step, step)
            buffer.region.last = step
    program.buffers = [each for each in program.buffers if each.region is not None]
