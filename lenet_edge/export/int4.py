"""int4 weights for the dense layers of an int8 .tflite file."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.errors import ModelFileError
from lenet_edge.export.embed import operator_number, read_tflite, write_tflite

LARGEST = 7  # the integers are -7 to 7, so that the zero point is 0
# Ratios of the scales that are tried to the scale without clipping. A ratio above 1 restores the
# scale of weights that were rounded in training and of which none is 7 any more.
_RATIOS = np.append(np.linspace(0.2, 1, 81), LARGEST / np.arange(1, LARGEST))
# A layer gets one scale if the error is less than 1 dB above the error with a scale per output.
_MAX_ERROR_RATIO = 10**0.1
# Source: tensorflow/lite/tools/versioning/op_version.cc, and runtime_version.cc.
_VERSION = 10
_OLDEST_RUNTIME = "2.11.0"
_OLDEST_WITH_SEVERAL_SCALES = "2.18.0"  # 2.17 refuses such a file, 2.21 accepts it
Floats = npt.NDArray[np.float32]


def quantize_dense_layers(content: bytes, floats: bytes, trained: Collection[float] = ()) -> bytes:
    """Return an int8 .tflite file with int4 weights in its dense layers.

    Args:
        content: the int8 file.
        floats: the float32 file of the same model, which has the same operators.
        trained: the scales of a training with int4; layers that were rounded with them keep them.

    Raises:
        ModelFileError: the model has no dense layer.
    """
    model, source = read_tflite(content), read_tflite(floats)
    tensors = model.subgraphs[0].tensors
    for operator, original in zip(_dense(model), _dense(source), strict=True):
        weights, bias = (
            _floats(source, original.inputs[place]) if len(original.inputs) > place else None
            for place in (1, 2)
        )
        if weights is None:  # the weights are computed
            continue
        scales = choose_scales(weights, trained)
        integers = np.clip(np.round(weights / scales[:, np.newaxis]), -LARGEST, LARGEST)
        _set_weights(model, operator.inputs[1], integers.astype(np.int8), scales)
        if bias is not None:
            input_scale = np.float32(tensors[operator.inputs[0]].quantization.scale[0])
            _set_bias(model, operator.inputs[2], bias, input_scale * scales)
    return _finish(model)


def pack_dense_layers(content: bytes) -> bytes:
    """Return an int8 .tflite file with int4 in each dense layer whose weights are -8 to 7.

    Raises:
        ModelFileError: there is no such layer.
    """
    model = read_tflite(content)
    for operator in _dense(model):
        tensor = model.subgraphs[0].tensors[operator.inputs[1]]
        data = model.buffers[tensor.buffer].data
        if data is None:
            continue
        values = np.asarray(data, np.uint8).view(np.int8)
        if values.min() >= -LARGEST - 1 and values.max() <= LARGEST:
            scales = np.asarray(tensor.quantization.scale, np.float32)
            _set_weights(model, operator.inputs[1], values.reshape(tensor.shape), scales)
    return _finish(model)


def choose_scales(weights: Floats, trained: Collection[float] = ()) -> Floats:
    """Return the scales with the least squared error: one for each output, or one for all.

    TensorFlow Lite Micro and tflite-runtime have int4 with one scale only.

    Args:
        weights: of shape (outputs, inputs).
        trained: the scales that weights may have been rounded with.
    """
    scales, errors = _least_error(weights)
    scale, error = _least_error(weights.reshape(1, -1))
    # With one scale, weights that were rounded in training have only the error of float32.
    negligible = 1e-9 * np.square(weights).sum()
    if error[0] >= _MAX_ERROR_RATIO * errors.sum() + negligible:
        return scales
    # The scale of weights that were rounded has the error of float32: take the exact one.
    near = [each for each in trained if abs(each - scale[0]) < 1e-5 * scale[0]]
    return np.array(near[:1], np.float32) if near else scale


def pack(values: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """Return integers of four bits, two to a byte; the lower half is the first integer."""
    flat = values.ravel().view(np.uint8) & 15
    even = np.append(flat, np.zeros(flat.size % 2, np.uint8))
    return np.asarray(even[0::2] | even[1::2] << 4, np.uint8)


def unpack(data: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.int8]:
    """Return `count` integers of four bits.

    Raises:
        ValueError: the data has another length.
    """
    if data.size != -(-count // 2):
        raise ValueError(f"{data.size} bytes hold no {count} integers of four bits")
    halves = np.stack([data & 15, data >> 4], axis=1).ravel()[:count]
    return np.asarray((halves ^ 8).astype(np.int8) - 8, np.int8)


def _dense(model: Any) -> Iterator[Any]:
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    for operator in model.subgraphs[0].operators:
        if operator_number(model, operator) == BuiltinOperator.FULLY_CONNECTED:
            yield operator


def _floats(model: Any, index: int) -> Floats | None:
    """Return a constant of the float file; None for an omitted or a computed tensor."""
    if index < 0:
        return None
    tensor = model.subgraphs[0].tensors[index]
    data = model.buffers[tensor.buffer].data
    if data is None:
        return None
    return np.asarray(data, np.uint8).view("<f4").astype(np.float32).reshape(tensor.shape)


def _least_error(weights: Floats) -> tuple[Floats, npt.NDArray[np.float64]]:
    """Return the scale of each row with the least squared error, and this error."""
    largest = np.abs(weights).max(axis=1)
    largest = np.where(largest > 0, largest, 1).astype(np.float32)
    best, least = largest / LARGEST, np.full(len(weights), math.inf)
    for ratio in _RATIOS:
        scales = (largest * np.float32(ratio / LARGEST)).astype(np.float32)
        columns = scales[:, np.newaxis]
        restored = np.clip(np.round(weights / columns), -LARGEST, LARGEST) * columns
        errors = np.square(restored - weights, dtype=np.float64).sum(axis=1)
        best = np.where(errors < least, scales, best)
        least = np.minimum(errors, least)
    return best.astype(np.float32), least


def _set_weights(model: Any, index: int, values: npt.NDArray[np.int8], scales: Floats) -> None:
    from ai_edge_litert.schema_py_generated import TensorType

    model.subgraphs[0].tensors[index].type = TensorType.INT4
    _set_values(model, index, pack(values), scales)


def _set_bias(model: Any, index: int, bias: Floats, scales: Floats) -> None:
    integers = np.round(bias / scales.astype(np.float64))
    limits = np.iinfo(np.int32)
    values = np.clip(integers, limits.min, limits.max).astype("<i4")
    _set_values(model, index, values.view(np.uint8), scales)


def _set_values(model: Any, index: int, data: npt.NDArray[np.uint8], scales: Floats) -> None:
    """Give a tensor a buffer of its own; equal tensors of the converter share one."""
    from ai_edge_litert.schema_py_generated import BufferT

    tensor, buffer = model.subgraphs[0].tensors[index], BufferT()
    buffer.data = data
    tensor.buffer = len(model.buffers)
    model.buffers.append(buffer)
    tensor.quantization.scale = scales
    tensor.quantization.zeroPoint = np.zeros(len(scales), np.int64)
    tensor.quantization.quantizedDimension = 0


def _finish(model: Any) -> bytes:
    """Return the file, without the values that no tensor uses, and with the operator's version."""
    from ai_edge_litert.schema_py_generated import TensorType

    graph = model.subgraphs[0]
    packed = [
        operator
        for operator in _dense(model)
        if graph.tensors[operator.inputs[1]].type == TensorType.INT4
    ]
    if not packed:
        raise ModelFileError("it has no dense layer, whose weights int4 is for; leave out int4")
    for operator in packed:
        code = model.operatorCodes[operator.opcodeIndex]
        code.version = max(code.version, _VERSION)
    scales = [len(graph.tensors[each.inputs[1]].quantization.scale) for each in packed]
    oldest = _OLDEST_RUNTIME if max(scales) == 1 else _OLDEST_WITH_SEVERAL_SCALES
    for entry in model.metadata or ():
        if entry.name == b"min_runtime_version":
            version = oldest.encode().ljust(16, b"\0")
            model.buffers[entry.buffer].data = np.frombuffer(version, np.uint8)
    used = {tensor.buffer for each in model.subgraphs for tensor in each.tensors}
    used |= {entry.buffer for entry in model.metadata or ()}
    for number, buffer in enumerate(model.buffers):
        if number not in used:
            buffer.data = None
    return write_tflite(model)
