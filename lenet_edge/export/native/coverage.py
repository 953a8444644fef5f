"""Checks of a .tflite graph: the operators that the C files cover, and their shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lenet_edge.errors import ModelFileError
from lenet_edge.export.native.tflite_graph import Operator, OperatorGraph, Tensor

SAME = 0
RELU, RELU_N1_TO_1, RELU6 = 1, 2, 3
_ACTIVATIONS = (0, RELU, RELU_N1_TO_1, RELU6)
_MAX_SOFTMAX = 2048
_MAX_RANK = 6
_NUMBERS = ("int8", "uint8", "float32")
RESHAPES = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
UNARY = ("LOGISTIC", "TANH", "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LEAKY_RELU", "ELU",
         "HARD_SWISH")  # fmt: skip


def check(graph: OperatorGraph, name: str) -> None:
    """Check that the C files cover every operator of a graph.

    Args:
        graph: the graph, without operators that no output needs.
        name: the name of the file, for messages.

    Raises:
        ModelFileError: an operator is not covered; the message names all of them. Or the shapes
            of an operator contradict each other.
    """
    problems: list[str] = []
    for tensor in (*graph.inputs, *graph.outputs):
        if tensor.dtype not in _NUMBERS:
            problems.append(f"{tensor.name!r:.60} is of {tensor.dtype}")
        elif tensor.is_dynamic:
            problems.append(f"{tensor.name!r:.60} has a size that is not fixed")
        elif 0 in tensor.shape:
            problems.append(f"{tensor.name!r:.60} has the shape {tensor.shape}")
    for operator in graph.operators:
        problem = _problem(operator)
        if problem:
            problems.append(f"{operator.described}: {problem}")
    if problems:
        raise ModelFileError(
            f"the native format does not cover parts of {name}: {'; '.join(problems)}; replace"
            " them, or choose another --format"
        )
    for operator in graph.operators:
        shape = _CHECKS[operator.kind][1](operator)
        if shape is not None and tuple(shape) != operator.output.shape:
            raise ModelFileError(
                f"{name} is damaged: {operator.described} has the shape {operator.output.shape}"
                f" instead of {tuple(shape)}; make it again"
            )


def _problem(operator: Operator) -> str | None:
    if operator.kind not in _CHECKS:
        return "the operator is unknown"
    if len(operator.outputs) != 1:
        return "it has several outputs"
    if operator.activation not in _ACTIVATIONS:
        return "its activation is unknown"
    tensors = [tensor for tensor in operator.inputs if tensor is not None]
    if not tensors:
        return "it has no input"
    for tensor in (tensors[0], operator.output):
        if tensor.dtype not in _NUMBERS:
            return f"it computes in {tensor.dtype}"
        if tensor.is_dynamic:
            return "a size is not fixed"
        if tensor.dtype != "float32" and not tensor.is_quantized:
            return "a tensor has no scale, or several"
        if len(tensor.shape) > _MAX_RANK or 0 in tensor.shape:
            return f"the shape {tensor.shape}"
    return _CHECKS[operator.kind][0](operator)


def output_sizes(
    sizes: Sequence[int],
    window: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    is_same: bool,
) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """Return rows and columns of an output, and the padding above, below, left and right.

    Source: TensorFlow's "SAME" padding; the smaller half is above and left.
    """
    results, padding = [], []
    for size, length, stride, dilation in zip(sizes, window, strides, dilations, strict=True):
        reach = (length - 1) * dilation + 1
        result = -(-size // stride) if is_same else (size - reach + stride) // stride
        missing = max((result - 1) * stride + reach - size, 0) if is_same else 0
        results.append(result)
        padding += [missing // 2, missing - missing // 2]
    above, below, left, right = padding
    return (results[0], results[1]), (above, below, left, right)


def window_of(operator: Operator) -> tuple[int, int]:
    """Return the rows and the columns of an operator's kernel or pool."""
    if operator.kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        _, rows, cols, _ = operator.input(1).shape
        return rows, cols
    return int(operator.options.filterHeight), int(operator.options.filterWidth)


def strides_of(operator: Operator) -> tuple[int, int]:
    """Return the strides of a convolution or a pool: rows and columns."""
    return int(operator.options.strideH), int(operator.options.strideW)


def dilations_of(operator: Operator) -> tuple[int, int]:
    """Return the dilations of a convolution; 1 for a pool."""
    options = operator.options
    return int(getattr(options, "dilationHFactor", 1)), int(getattr(options, "dilationWFactor", 1))


def geometry(operator: Operator) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """Return rows and columns of a convolution or a pool, and its own padding."""
    return output_sizes(
        operator.input().shape[1:3],
        window_of(operator),
        strides_of(operator),
        dilations_of(operator),
        int(operator.options.padding) == SAME,
    )


def constant_numbers(tensor: Tensor) -> list[int] | None:
    """Return the integers of a constant, None if it is none."""
    if tensor.values is None or tensor.dtype not in ("int32", "int64"):
        return None
    return [int(value) for value in tensor.values.ravel()]


def _constant_numbers(operator: Operator, number: int) -> list[int] | None:
    if len(operator.inputs) <= number:
        return None
    tensor = operator.inputs[number]
    return None if tensor is None else constant_numbers(tensor)


def _window_problem(operator: Operator) -> str | None:
    if len(operator.input().shape) != 4 or len(operator.output.shape) != 4:
        return f"its input has the shape {operator.input().shape}"
    values = (*window_of(operator), *strides_of(operator), *dilations_of(operator))
    if not all(1 <= value <= 1 << 15 for value in values):
        return "its window, strides and dilation must be positive"
    return None


def _pool_problem(operator: Operator) -> str | None:
    source, output = operator.input(), operator.output
    if source.dtype != output.dtype or not source.has_same_quantization(output):
        return "input and output have different scales"
    return _window_problem(operator)


def _weighted_problem(operator: Operator) -> str | None:
    """Return the problem of an operator with weights and bias."""
    source, output = operator.input(), operator.output
    if len(operator.inputs) < 2 or operator.inputs[1] is None:
        return "it has no weights"
    weights = operator.input(1)
    bias = operator.inputs[2] if len(operator.inputs) > 2 else None
    if weights.values is None or (bias is not None and bias.values is None):
        return "its weights are computed"
    if source.dtype != output.dtype or weights.dtype != source.dtype:
        return f"input, weights and output are {source.dtype}, {weights.dtype}, {output.dtype}"
    if bias is not None and bias.dtype != ("float32" if source.dtype == "float32" else "int32"):
        return f"its bias is of {bias.dtype}"
    if source.dtype == "float32":
        return None
    if not weights.scales or (source.dtype == "int8" and any(weights.zeros)):
        return "its weights have no scale, or zero points"
    if source.dtype == "uint8" and len(weights.scales) > 1:
        return "its uint8 weights have several scales"
    return None


def _channels_problem(operator: Operator, axis: int) -> str | None:
    weights = operator.input(1)
    channels = weights.shape[axis]
    if len(weights.scales) > 1 and (
        weights.axis != axis % len(weights.shape) or len(weights.scales) != channels
    ):
        return "its scales are not per channel"
    bias = operator.inputs[2] if len(operator.inputs) > 2 else None
    if bias is not None and bias.size != channels:
        return f"it has {bias.size} biases for {channels} outputs"
    return None


def _conv_problem(operator: Operator) -> str | None:
    problem = _weighted_problem(operator)
    if problem:
        return problem
    weights = operator.input(1)
    if len(weights.shape) != 4 or 0 in weights.shape:
        return f"its weights have the shape {weights.shape}"
    axis = 0 if operator.kind == "CONV_2D" else 3
    problem = _window_problem(operator) or _channels_problem(operator, axis)
    if problem:
        return problem
    channels = operator.input().shape[3]
    if operator.kind == "CONV_2D" and weights.shape[3] != channels:
        return f"it has groups: {channels} channels, {weights.shape[3]} in each kernel"
    if operator.kind != "CONV_2D" and (weights.shape[0] != 1 or weights.shape[3] % channels):
        return f"its weights have the shape {weights.shape} for {channels} channels"
    return None


def _conv_shape(operator: Operator) -> Sequence[int]:
    batches = operator.input().shape[0]
    filters = operator.input(1).shape[0 if operator.kind == "CONV_2D" else 3]
    return (batches, *geometry(operator)[0], filters)


def _pool_shape(operator: Operator) -> Sequence[int]:
    batches, _, _, channels = operator.input().shape
    return (batches, *geometry(operator)[0], channels)


def _dense_problem(operator: Operator) -> str | None:
    problem = _weighted_problem(operator)
    if problem:
        return problem
    weights = operator.input(1)
    if len(weights.shape) != 2 or 0 in weights.shape:
        return f"its weights have the shape {weights.shape}"
    if int(operator.options.weightsFormat or 0):
        return "its weights are shuffled"
    if operator.input().size % weights.shape[1]:
        return f"its input has the shape {operator.input().shape}"
    return _channels_problem(operator, 0)


def _dense_shape(operator: Operator) -> Sequence[int] | None:
    outputs, inputs = operator.input(1).shape
    shape = operator.output.shape
    if (
        not shape
        or shape[-1] != outputs
        or operator.output.size * inputs != (operator.input().size * outputs)
    ):
        return (operator.input().size // inputs, outputs)
    return None


def _binary_problem(operator: Operator) -> str | None:
    if len(operator.inputs) != 2:
        return "it needs two inputs"
    for tensor in (operator.input(0), operator.input(1)):
        if tensor.dtype != operator.output.dtype:
            return f"inputs and output are of {tensor.dtype} and {operator.output.dtype}"
        if tensor.dtype != "float32" and not tensor.is_quantized:
            return "a tensor has no scale, or several"
    return None


def _binary_shape(operator: Operator) -> Sequence[int] | None:
    try:
        return np.broadcast_shapes(operator.input(0).shape, operator.input(1).shape)
    except ValueError:
        raise ModelFileError(
            f"{operator.described} has inputs of the shapes {operator.input(0).shape} and"
            f" {operator.input(1).shape}, which do not fit"
        ) from None


def _no_problem(operator: Operator) -> str | None:
    if operator.input().dtype != operator.output.dtype:
        return f"input and output are of {operator.input().dtype} and {operator.output.dtype}"
    return None


def _copy_problem(operator: Operator) -> str | None:
    source = operator.input()
    if source.dtype != operator.output.dtype or not source.has_same_quantization(operator.output):
        return "input and output have different scales"
    return None


def _same_shape(operator: Operator) -> Sequence[int]:
    return operator.input().shape


def _reshaped(operator: Operator) -> Sequence[int] | None:
    return None if operator.output.size == operator.input().size else (operator.input().size,)


def _concatenation_problem(operator: Operator) -> str | None:
    output = operator.output
    if operator.activation:
        return "it has an activation"
    for tensor in operator.inputs:
        if tensor is None or tensor.dtype != output.dtype:
            return "inputs and output have different types"
        if not tensor.has_same_quantization(output):
            return "inputs and output have different scales"
    return None


def concatenation_axis(operator: Operator) -> int:
    """Return the axis of a CONCATENATION, from 0."""
    axis = int(operator.options.axis)
    return axis + len(operator.output.shape) if axis < 0 else axis


def _concatenated(operator: Operator) -> Sequence[int]:
    shapes = [tensor.shape for tensor in operator.inputs if tensor is not None]
    axis = concatenation_axis(operator)
    first = list(shapes[0])
    for shape in shapes:
        if (
            not 0 <= axis < len(shape)
            or len(shape) != len(first)
            or any(a != b for n, (a, b) in enumerate(zip(shape, first, strict=True)) if n != axis)
        ):
            raise ModelFileError(f"{operator.described} has inputs of the shapes {shapes}")
    first[axis] = sum(shape[axis] for shape in shapes)
    return first


def _pad_problem(operator: Operator) -> str | None:
    amounts = _constant_numbers(operator, 1)
    rank = len(operator.input().shape)
    if amounts is None or len(amounts) != 2 * rank or min(amounts, default=0) < 0:
        return "its padding must be constant and positive"
    if len(operator.inputs) > 2:
        value = operator.inputs[2]
        if value is None or value.values is None or value.size != 1:
            return "its value must be constant"
    return _copy_problem(operator)


def _padded(operator: Operator) -> Sequence[int]:
    amounts = _constant_numbers(operator, 1) or []
    shape = operator.input().shape
    return [size + sum(amounts[2 * n : 2 * n + 2]) for n, size in enumerate(shape)]


def mean_axes(operator: Operator) -> list[int]:
    """Return the axes that a MEAN reduces, from 0."""
    rank = len(operator.input().shape)
    numbers = _constant_numbers(operator, 1) or []
    return sorted({axis + rank if axis < 0 else axis for axis in numbers})


def _mean_problem(operator: Operator) -> str | None:
    if _constant_numbers(operator, 1) is None:
        return "its axes must be constant"
    rank = len(operator.input().shape)
    if not all(0 <= axis < rank for axis in mean_axes(operator)) or not mean_axes(operator):
        return "its axes do not exist"
    return _no_problem(operator)


def _meaned(operator: Operator) -> Sequence[int]:
    axes, keep = mean_axes(operator), bool(operator.options.keepDims)
    shape = enumerate(operator.input().shape)
    return [1 if n in axes else size for n, size in shape if keep or n not in axes]


def _resize_problem(operator: Operator) -> str | None:
    if _constant_numbers(operator, 1) is None or len(operator.input().shape) != 4:
        return "its size must be constant"
    if max((*operator.input().shape, *operator.output.shape)) >= 1 << 15:
        return "its image is too large"
    return _copy_problem(operator)


def _resized(operator: Operator) -> Sequence[int]:
    batches, _, _, channels = operator.input().shape
    return (batches, *(_constant_numbers(operator, 1) or []), channels)


def _softmax_problem(operator: Operator) -> str | None:
    if operator.input().shape and operator.input().shape[-1] > _MAX_SOFTMAX:
        return f"it has more than {_MAX_SOFTMAX} classes"
    output = operator.output
    if output.dtype != "float32" and (
        not np.isclose(output.scale, 1 / 256, rtol=1e-3)
        or output.zero != (-128 if output.dtype == "int8" else 0)
    ):
        return "its output must have the scale 1/256"
    if output.dtype != "float32" and float(operator.options.beta) <= 0:
        return "its beta must be positive"
    return _no_problem(operator)


def _unary_problem(operator: Operator) -> str | None:
    output = operator.output
    if operator.kind in ("ELU", "HARD_SWISH"):
        return "the operator is unknown" if output.dtype != "float32" else None
    if operator.kind == "LOGISTIC" and output.dtype != "float32" and output.scale != 1 / 256:
        return "its output must have the scale 1/256"
    return _no_problem(operator)


def _quantize_problem(operator: Operator) -> str | None:
    kinds = (operator.input().dtype, operator.output.dtype)
    if operator.kind == "QUANTIZE" and kinds[1] == "float32":
        return "it makes floats"
    if operator.kind == "DEQUANTIZE" and (kinds[1] != "float32" or kinds[0] == "float32"):
        return f"input and output are of {kinds[0]} and {kinds[1]}"
    return None


Check = Callable[[Operator], str | None]
Shape = Callable[[Operator], Sequence[int] | None]
_CHECKS: dict[str, tuple[Check, Shape]] = {
    "CONV_2D": (_conv_problem, _conv_shape),
    "DEPTHWISE_CONV_2D": (_conv_problem, _conv_shape),
    "FULLY_CONNECTED": (_dense_problem, _dense_shape),
    "MAX_POOL_2D": (_pool_problem, _pool_shape),
    "AVERAGE_POOL_2D": (_pool_problem, _pool_shape),
    "MEAN": (_mean_problem, _meaned),
    "ADD": (_binary_problem, _binary_shape),
    "SUB": (_binary_problem, _binary_shape),
    "MUL": (_binary_problem, _binary_shape),
    "CONCATENATION": (_concatenation_problem, _concatenated),
    "PAD": (_pad_problem, _padded),
    "PADV2": (_pad_problem, _padded),
    **dict.fromkeys(RESHAPES, (_copy_problem, _reshaped)),
    "SOFTMAX": (_softmax_problem, _same_shape),
    **dict.fromkeys(UNARY, (_unary_problem, _same_shape)),
    "QUANTIZE": (_quantize_problem, _same_shape),
    "DEQUANTIZE": (_quantize_problem, _same_shape),
    "RESIZE_NEAREST_NEIGHBOR": (_resize_problem, _resized),
}
