"""Passes that leave out what no output depends on, and keep every bit.

Rows and columns at the end of an image that no window reads are not computed. Outputs of dense
layers that cannot change become part of the next layer's bias.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lenet_edge.export.native.coverage import (
    RESHAPES,
    dilations_of,
    geometry,
    strides_of,
    window_of,
)
from lenet_edge.export.native.lowering.integers import centred_weights, output_limits, padding_of
from lenet_edge.export.native.passes import CONVOLUTIONS, stored_zero
from lenet_edge.export.native.tflite_graph import Operator, OperatorGraph, Tensor

_POOLS = ("MAX_POOL_2D", "AVERAGE_POOL_2D")
_DENSE = "FULLY_CONNECTED"
_INT8, _INT32 = np.iinfo(np.int8), np.iinfo(np.int32)
Integers = npt.NDArray[np.int64]
Range = tuple[Integers, Integers]  # the smallest and largest stored integer of each channel


def prune(graph: OperatorGraph) -> None:
    """Apply both passes to a graph that `passes.optimize` returned."""
    _cut_images(graph)
    _drop_constant_outputs(graph)


def _cut_images(graph: OperatorGraph) -> None:
    """Shorten the outputs of convolutions to the rows and columns that are read."""
    for operator in reversed(graph.operators):
        tensor = operator.output
        readers = graph.consumers(tensor)
        if (
            operator.kind not in CONVOLUTIONS
            or tensor in graph.outputs
            or not all(_reads_windows_of(reader, tensor) for reader in readers)
        ):
            continue
        spans = [_span(reader) for reader in readers]
        sizes = [
            min(size, max(span[axis] for span in spans))
            for axis, size in enumerate(tensor.shape[1:3])
        ]
        for reader in readers:
            if reader.kind in CONVOLUTIONS:
                above, _, left, _ = padding_of(reader)
                rows, cols = _span(reader)
                reader.padding = (above, max(rows - sizes[0], 0), left, max(cols - sizes[1], 0))
        tensor.shape = (tensor.shape[0], *sizes, tensor.shape[3])


def _reads_windows_of(reader: Operator, tensor: Tensor) -> bool:
    if reader.kind in CONVOLUTIONS:
        return reader.input() is tensor and not any(each is tensor for each in reader.inputs[1:])
    return reader.kind in _POOLS and not any(geometry(reader)[1])


def _span(reader: Operator) -> tuple[int, int]:
    """Return the rows and columns from the first pixel to the last one that windows cover."""
    above, _, left, _ = padding_of(reader)
    spans: list[int] = []
    for axis, before in enumerate((above, left)):
        positions = reader.output.shape[1 + axis]
        if reader.pool is not None:
            window, stride = window_of(reader.pool)[axis], strides_of(reader.pool)[axis]
            positions = (positions - 1) * stride + window
        reach = (window_of(reader)[axis] - 1) * dilations_of(reader)[axis] + 1
        spans.append((positions - 1) * strides_of(reader)[axis] + reach - before)
    return spans[0], spans[1]


def _drop_constant_outputs(graph: OperatorGraph) -> None:
    """Remove the outputs of dense layers that have one value for every input."""
    ranges: dict[int, Range] = {}
    for operator in graph.operators:
        source = operator.inputs[0] if operator.inputs else None
        known = None if source is None else ranges.get(id(source))
        if operator.kind in RESHAPES and source is not None and known is not None:
            ranges[id(operator.output)] = known
        if operator.kind not in (*CONVOLUTIONS, _DENSE) or source is None:
            continue
        if operator.output.dtype not in ("int8", "uint8") or source.dtype != operator.output.dtype:
            continue
        found = _output_range(operator, known)
        readers = graph.consumers(operator.output)
        if (
            operator.kind == _DENSE
            and operator.output not in graph.outputs
            and [reader.kind for reader in readers] == [_DENSE]
            and readers[0].input() is operator.output
        ):
            found = _drop(operator, readers[0], found)
        ranges[id(operator.output)] = found


def _output_range(operator: Operator, known: Range | None) -> Range:
    """Return the range of each output channel, from the ranges of the input channels."""
    source, weights, output = operator.input(), operator.input(1), operator.output
    values = centred_weights(weights)
    zero = stored_zero(source)
    if operator.kind == "DEPTHWISE_CONV_2D":
        values = values.reshape(-1, values.shape[-1]).T[:, :, np.newaxis]
        channels = 1
        known = None
    else:
        channels = values.shape[-1]
        values = values.reshape(len(values), -1, channels)
    if known is None or channels % len(known[0]):
        known = np.full(1, _INT8.min, np.int64), np.full(1, _INT8.max, np.int64)
    lowest, highest = known
    repeats = channels // len(lowest)  # of the channels in a flattened image
    lowest, highest = (np.tile(side - zero, repeats) for side in (lowest, highest))
    if operator.kind != _DENSE:  # the padding
        lowest, highest = np.minimum(lowest, 0), np.maximum(highest, 0)
    products = values * lowest, values * highest
    bias = _bias(operator)
    sums = [choose(*products).sum(axis=(1, 2)) + bias for choose in (np.minimum, np.maximum)]
    low, high = output_limits(operator)
    fits = (sums[0] >= _INT32.min) & (sums[1] <= _INT32.max)
    scale = np.array(weights.scales) * source.scale / output.scale
    # Convolutions round twice: together, by less than 1.
    margin = 0.51 if operator.kind == _DENSE else 1.0
    reals = [each * scale + stored_zero(output) for each in sums]
    below = np.clip(np.ceil(reals[0] - margin), low, high)
    above = np.clip(np.floor(reals[1] + margin), low, high)
    return (
        np.where(fits, below, low).astype(np.int64),
        np.where(fits, above, high).astype(np.int64),
    )


def _bias(operator: Operator) -> Integers:
    tensor = operator.inputs[2] if len(operator.inputs) > 2 else None
    if tensor is None or tensor.values is None:
        return np.zeros(1, np.int64)
    return tensor.values.astype(np.int64).ravel()


def _drop(operator: Operator, reader: Operator, found: Range) -> Range:
    """Remove the constant outputs of a dense layer; return the ranges of the others."""
    keep = found[0] < found[1]
    if not keep.any():
        keep[0] = True  # at least one output remains
    output, weights = operator.output, reader.input(1)
    constants = found[0][~keep] - stored_zero(output)
    assert weights.values is not None
    bias = _bias(reader) + centred_weights(weights)[:, ~keep] @ constants
    if keep.all() or bias.min() < _INT32.min or bias.max() > _INT32.max:
        return found
    reader.inputs[1] = _with_values(weights, weights.values[:, keep])
    old = reader.inputs[2] if len(reader.inputs) > 2 else None
    made = old or Tensor("bias", (len(bias),), "int32")
    reader.inputs[2:] = [_with_values(made, bias.astype(np.int32))]
    for number, tensor in enumerate(operator.inputs[1:], 1):
        if tensor is not None and tensor.values is not None:
            scales = np.array(tensor.scales)[keep] if len(tensor.scales) > 1 else tensor.scales
            zeros = np.array(tensor.zeros)[keep] if len(tensor.zeros) > 1 else tensor.zeros
            kept = replace(tensor, scales=tuple(map(float, scales)), zeros=tuple(map(int, zeros)))
            operator.inputs[number] = _with_values(kept, tensor.values[keep])
    output.shape = (*output.shape[:-1], int(keep.sum()))
    return found[0][keep], found[1][keep]


def _with_values(tensor: Tensor, values: npt.NDArray[np.generic]) -> Tensor:
    return replace(tensor, values=values, shape=values.shape)
