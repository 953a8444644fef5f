"""ncnn layers for the operators of an ONNX graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lenet_edge.export.ncnn.network import ORDERS, Params, Shape
from lenet_edge.export.ncnn.translation import Translation

# Numbers of ncnn's operators. Source: its wiki, "operators".
_UNARY = {"Abs": 0, "Neg": 1, "Floor": 2, "Ceil": 3, "Sqrt": 5, "Exp": 7, "Log": 8, "Sin": 9,
          "Cos": 10, "Reciprocal": 15, "Tanh": 16}  # fmt: skip
_BINARY = {"Add": 0, "Sub": 1, "Mul": 2, "Div": 3, "Max": 4, "Min": 5, "Pow": 6}
_REVERSED = {"Sub": 7, "Div": 8, "Pow": 9}
_REDUCTIONS = {"ReduceSum": 0, "ReduceMean": 3, "ReduceMax": 4, "ReduceMin": 5}
_PAD_MODES = {"constant": 0, "edge": 1, "reflect": 2}
_SAME = {"SAME_UPPER", "SAME_LOWER"}


def _windows(at: Translation, kernel: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Return the strides, the dilations, and the padding: top, left, bottom, right."""
    if len(kernel) != 2:
        raise at.uncovered(f"windows of {len(kernel)} axes")
    strides, dilations = (list(at.setting(key, [1, 1])) for key in ("strides", "dilations"))
    mode = at.setting("auto_pad", "NOTSET")
    if mode not in _SAME:
        return strides, dilations, list(at.setting("pads", [0, 0, 0, 0]))
    sizes, ends = at.shape(at.node.input[0])[1:], at.shape(at.node.output[0])[1:]
    before, after = [], []
    for size, end, window, step, dilation in zip(
        sizes, ends, kernel, strides, dilations, strict=True
    ):
        missing = max((end - 1) * step + (window - 1) * dilation + 1 - size, 0)
        small, large = missing // 2, missing - missing // 2
        before.append(small if mode == "SAME_UPPER" else large)
        after.append(large if mode == "SAME_UPPER" else small)
    return strides, dilations, [*before, *after]


def _conv(at: Translation) -> None:
    weights = at.floats(at.constant(1))
    bias = at.constant(2)
    (step_y, step_x), (gap_y, gap_x), (top, left, bottom, right) = _windows(at, weights.shape[2:])
    params: Params = {
        0: len(weights), 1: weights.shape[3], 11: weights.shape[2], 2: gap_x, 12: gap_y,
        3: step_x, 13: step_y, 4: left, 15: right, 14: top, 16: bottom,
        5: int(bias is not None), 6: weights.size,
    }  # fmt: skip
    group = at.setting("group", 1)
    if group > 1:
        params[7] = group
    vectors = [] if bias is None else [at.floats(bias)]
    at.add("Convolution" if group == 1 else "ConvolutionDepthWise", params, None, weights, vectors)


def _pool(at: Translation) -> None:
    kernel = at.setting("kernel_shape", [])
    (step_y, step_x), gaps, (top, left, bottom, right) = _windows(at, kernel)
    if gaps != [1, 1]:
        raise at.uncovered("its windows have gaps")
    if len(at.node.output) > 1:
        raise at.uncovered("the positions of the maxima")
    params: Params = {
        0: int(at.node.op_type == "AveragePool"), 1: kernel[1], 11: kernel[0], 2: step_x,
        12: step_y, 3: left, 14: right, 13: top, 15: bottom,
        5: 0 if at.setting("ceil_mode", 0) else 1, 6: at.setting("count_include_pad", 0),
    }  # fmt: skip
    at.add("Pooling", params)


def _global_pool(at: Translation) -> None:
    shape = at.shape(at.node.input[0])
    if len(shape) != 3:
        raise at.uncovered(f"a value of {len(shape) + 1} axes")
    is_mean = at.node.op_type == "GlobalAveragePool"
    at.add("Pooling", {0: int(is_mean), 4: 1}, shape=shape[:1])


def _reduce(at: Translation) -> None:
    shape = at.shape(at.node.input[0])
    stated = at.setting("axes", None)
    if stated is None:  # later opsets have an input for them
        stated = at.constant(1)
    axes = sorted(int(axis) % (len(shape) + 1) for axis in (() if stated is None else stated))
    if not axes or axes[0] == 0:
        raise at.uncovered("it reduces the batch")
    kept = tuple(1 if axis + 1 in axes else size for axis, size in enumerate(shape))
    if len(shape) == 3 and axes == [2, 3] and at.node.op_type == "ReduceMean":
        at.add("Pooling", {0: 1, 4: 1}, shape=shape[:1])
        return
    params: Params = {0: _REDUCTIONS[at.node.op_type], 1: 0, 3: [axis - 1 for axis in axes],
                      4: 1, 5: 1}  # fmt: skip
    at.add("Reduction", params, shape=kept)


def _dense(at: Translation) -> None:
    if at.node.op_type == "Gemm" and at.setting("transA", 0):
        raise at.uncovered("its first input is transposed")
    weights = at.floats(at.constant(1)) * np.float32(at.setting("alpha", 1.0))
    axes = len(at.shape(at.node.input[0])) + 1
    if weights.ndim != 2 or axes > 3:
        raise at.uncovered(f"a product of {max(axes, weights.ndim)} axes")
    if not at.setting("transB", 0):
        weights = weights.T
    bias = at.constant(2)
    vectors = []
    if bias is not None:
        summands = at.floats(bias) * np.float32(at.setting("beta", 1.0))
        vectors = [np.broadcast_to(summands.reshape(-1), len(weights)).copy()]
    params: Params = {0: len(weights), 1: len(vectors), 2: weights.size}
    at.add("InnerProduct", params, None, np.ascontiguousarray(weights), vectors)


def _normalize(at: Translation) -> None:
    slope, bias, mean, variance = (at.floats(at.constant(number)) for number in (1, 2, 3, 4))
    params: Params = {0: len(slope), 1: float(at.setting("epsilon", 1e-5))}
    at.add("BatchNorm", params, vectors=[slope, mean, variance, bias])


def _simple(kind: str, *settings: tuple[int, str, float]) -> Callable[[Translation], None]:
    def translate(at: Translation) -> None:
        at.add(kind, {key: float(at.setting(name, value)) for key, name, value in settings})

    return translate


def _clip(at: Translation) -> None:
    low, high = (at.constant(number) for number in (1, 2))
    most = float(np.finfo(np.float32).max)
    at.add(
        "Clip", {0: -most if low is None else float(low), 1: most if high is None else float(high)}
    )


def _slopes(at: Translation) -> None:
    slopes = at.floats(at.constant(1))
    channels = at.shape(at.node.input[0])[0]
    if slopes.size not in (1, channels) or slopes.shape[-2:] not in ((1, 1), (), (1,), (channels,)):
        raise at.uncovered(f"slopes of shape {slopes.shape}")
    at.add("PReLU", {0: slopes.size}, vectors=[slopes.reshape(-1)])


def _unary(at: Translation) -> None:
    at.add("UnaryOp", {0: _UNARY[at.node.op_type]})


def _binary(at: Translation) -> None:
    first, second = at.node.input
    arrays = [at.graph.array(value) for value in (first, second)]
    kind = at.node.op_type
    if arrays[0] is not None and arrays[1] is not None:
        raise at.uncovered("both inputs are constants")
    for array, other, number in (
        (arrays[1], first, _BINARY[kind]), (arrays[0], second, _REVERSED.get(kind, _BINARY[kind])),
    ):  # fmt: skip
        if array is not None and array.size == 1:
            at.add("BinaryOp", {0: number, 1: 1, 2: float(array.reshape(()))}, [at.read(other)])
            return
    rank = len(at.shape(at.node.output[0]))
    blobs = []
    for value, array in zip((first, second), arrays, strict=True):
        if array is None:
            blobs.append(_with_axes(at, at.read(value), at.shape(value), rank))
            continue
        blob = f"{at.blob(at.node.output[0])}/{at.blob(value)}"
        at.memory(blob, array.reshape((*[1] * (rank + 1 - array.ndim), *array.shape))[0])
        blobs.append(blob)
    at.add("BinaryOp", {0: _BINARY[kind]}, blobs)


def _with_axes(at: Translation, blob: str, shape: Shape, rank: int) -> str:
    """Return a blob with as many axes as another one; ncnn would repeat it along other axes."""
    if len(shape) == rank:
        return blob
    wider = f"{blob}/{rank}_axes"
    if wider not in at.network.shapes:
        at.reshape(blob, wider, (*[1] * (rank - len(shape)), *shape))
    return wider


def _concat(at: Translation) -> None:
    axis = at.setting("axis", 1) % (len(at.shape(at.node.output[0])) + 1)
    if axis == 0:
        raise at.uncovered("it joins along the batch")
    at.add("Concat", {0: axis - 1}, [at.read(value) for value in at.node.input])


def _softmax(at: Translation) -> None:
    axis = at.setting("axis", -1) % (len(at.shape(at.node.input[0])) + 1)
    if axis == 0:
        raise at.uncovered("it normalizes along the batch")
    at.add("Softmax", {0: axis - 1, 1: 1})


def _reshape(at: Translation) -> None:
    (value,) = at.node.output
    at.reshape(at.read(at.node.input[0]), at.blob(value), at.shape(value))


def _transpose(at: Translation) -> None:
    shape = at.shape(at.node.input[0])
    order = tuple(axis - 1 for axis in at.setting("perm", ()))
    if not order or order[0] != -1:
        raise at.uncovered("it moves the batch")
    moved = [axis for axis in order[1:] if shape[axis] > 1]
    if moved == sorted(moved):  # only axes of size 1 move
        _reshape(at)
        return
    at.add("Permute", {0: ORDERS[len(shape)].index(order[1:])})


def _pad(at: Translation) -> None:
    shape, mode = at.shape(at.node.input[0]), at.setting("mode", "constant")
    pads, value, axes = at.constant(1), at.constant(2), at.constant(3)
    if pads is None or axes is not None or mode not in _PAD_MODES:
        raise at.uncovered(f"padding of mode {mode}")
    half = len(pads) // 2
    before, after = pads[1:half].tolist(), pads[half + 1 :].tolist()
    if len(shape) != 3 or pads[0] or pads[half] or min(before + after) < 0:
        raise at.uncovered("it pads the batch, crops, or pads no image")
    params: Params = {0: before[1], 1: after[1], 2: before[2], 3: after[2], 4: _PAD_MODES[mode],
                      5: 0.0 if value is None else float(value.reshape(())),
                      7: before[0], 8: after[0]}  # fmt: skip
    if mode != "constant" and (before[0] or after[0]):
        raise at.uncovered(f"{mode} padding of the first axis")
    at.add("Padding", params)


def _resize(at: Translation) -> None:
    shape, wanted = at.shape(at.node.input[0]), at.shape(at.node.output[0])
    mode = at.setting("mode", "nearest")
    where = at.setting("coordinate_transformation_mode", "half_pixel")
    if len(shape) != 3 or shape[0] != wanted[0]:
        raise at.uncovered("it resizes other axes than rows and columns")
    rows, columns = wanted[1:]
    whole = rows % shape[1] == columns % shape[2] == 0
    if mode == "nearest" and whole and where != "align_corners":
        kind, aligned = 1, 0
    elif mode == "linear" and where in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        kind, aligned = 2, int(where == "align_corners")
    else:
        raise at.uncovered(f"{mode} with {where} from {shape} to {wanted}")
    at.add("Interp", {0: kind, 3: rows, 4: columns, 6: aligned})


_TRANSLATORS: dict[str, Callable[[Translation], None]] = {
    "Conv": _conv,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "Gemm": _dense,
    "MatMul": _dense,
    "BatchNormalization": _normalize,
    "Relu": _simple("ReLU"),
    "LeakyRelu": _simple("ReLU", (0, "alpha", 0.01)),
    "PRelu": _slopes,
    "Clip": _clip,
    "Sigmoid": _simple("Sigmoid"),
    "HardSigmoid": _simple("HardSigmoid", (0, "alpha", 0.2), (1, "beta", 0.5)),
    "HardSwish": lambda at: at.add("HardSwish", {0: 1 / 6, 1: 0.5}),
    "Elu": _simple("ELU", (0, "alpha", 1.0)),
    "Selu": _simple("SELU", (0, "alpha", 1.67326319), (1, "gamma", 1.05070102)),
    "Softplus": _simple("Softplus"),
    "Mish": _simple("Mish"),
    "Gelu": lambda at: at.add("GELU", {0: int(at.setting("approximate", "none") == "tanh")}),
    "Softmax": _softmax,
    "Concat": _concat,
    "Transpose": _transpose,
    "Pad": _pad,
    "Resize": _resize,
    "Identity": _simple("Noop"),
    "Dropout": _simple("Noop"),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(_BINARY, _binary),
    **dict.fromkeys(_REDUCTIONS, _reduce),
}


def translate(translation: Translation) -> None:
    """Translate the nodes of a graph, in their order.

    Raises:
        ModelFileError: an operator is not covered; the message names it.
    """
    for node in translation.graph.nodes:
        translation.node = node
        translate_node = _TRANSLATORS.get(node.op_type)
        if translate_node is None or node.domain not in ("", "ai.onnx"):
            raise translation.uncovered("no ncnn layer computes it")
        translate_node(translation)
