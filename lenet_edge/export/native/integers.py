"""Write a network as C in int8, with the integers and the rounding of its .tflite file."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.artifact import TensorSpec
from lenet_edge.errors import ModelFileError
from lenet_edge.export.embed import read_tflite
from lenet_edge.export.native.text import array, prototypes, template

# Source: tensorflow/lite/schema/schema.fbs.
_MAX_POOL, _CONV, _DENSE, _RESHAPE = 17, 3, 9, 22
_NONE, _RELU = 0, 1
_SAME = 0
_DTYPES: dict[int, Any] = {2: np.dtype("<i4"), 9: np.dtype("int8")}


def write(name: str, content: bytes) -> tuple[str, int, tuple[TensorSpec, TensorSpec]]:
    """Return the C file without the comment at its top, its bytes of stack, its two tensors.

    Args:
        name: of the function.
        content: a full-integer int8 .tflite file.

    Raises:
        ModelFileError: the converter made an operator of it that is not covered.
    """
    graph = _Graph(content)
    arrays: list[str] = []
    calls: list[str] = []
    kernels: set[str] = set()
    sizes = [0, 0]  # of the two buffers that layers read and write in turn
    where = "image"
    last = max(n for n, one in enumerate(graph.operators) if one.kind != _RESHAPE)
    for number, one in enumerate(graph.operators):
        if one.kind == _RESHAPE:
            continue
        to = "logits" if number == last else ("odd" if where == "even" else "even")
        if to != "logits":
            which = int(to == "odd")
            sizes[which] = max(sizes[which], math.prod(one.output.shape[1:]))
        calls.append(_call(one, f"layer{number}", where, to))
        kernels.add(_TEMPLATES[one.kind])
        if one.kind != _MAX_POOL:
            arrays += _arrays(one, f"layer{number}")
        where = to
    inputs, outputs = graph.input, graph.operators[last].output
    pixels, classes = math.prod(inputs.shape[1:]), outputs.shape[-1]
    buffers = "".join(
        f"  int8_t {which}[{size}];\n"
        for which, size in zip(("even", "odd"), sizes, strict=True)
        if size
    )
    entrance = (
        f"void {name}(const int8_t image[{pixels}], int8_t logits[{classes}]) {{\n{buffers}\n"
        + "\n".join(calls)
        + f"\n}}\n\nvoid {name}_batch(const int8_t *images, int8_t *logits, size_t count) {{\n"
        f"  for (size_t n = 0; n < count; n++)\n"
        f"    {name}(images + {pixels} * n, logits + {classes} * n);\n}}\n"
    )
    parts = [
        template("integers.c"),
        prototypes(name, "int8_t", pixels, classes),
        *arrays,
        *(template(f"{kernel}.c") for kernel in sorted(kernels)),
        entrance,
    ]
    specs = (
        TensorSpec("image", (None, *inputs.shape[1:]), "int8", inputs.scale, inputs.zero),
        TensorSpec("logits", (None, classes), "int8", outputs.scale, outputs.zero),
    )
    return "\n".join(parts), sum(sizes), specs


_TEMPLATES = {_CONV: "integers_conv", _MAX_POOL: "integers_pool", _DENSE: "integers_dense"}


class _Tensor:
    """One tensor of the file: its name, shape, scales and zero point, and its values if any."""

    def __init__(self, graph: Any, tensor: Any) -> None:
        self.name = tensor.name.decode().split(";")[0]
        self.shape = tuple(int(size) for size in tensor.shape)
        quantization = tensor.quantization
        scales = [] if quantization is None or quantization.scale is None else quantization.scale
        self.scales = [float(scale) for scale in scales]
        self.zero = int(quantization.zeroPoint[0]) if self.scales else 0
        self._data, self._type = graph.buffers[tensor.buffer].data, tensor.type

    @property
    def scale(self) -> float:
        return self.scales[0]

    def values(self) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = np.frombuffer(bytes(self._data), _DTYPES[self._type])
        return values.reshape(self.shape)


class _Operator:
    """One operator: its kind, its options and its tensors."""

    def __init__(self, graph: Any, operator: Any) -> None:
        code = graph.operatorCodes[operator.opcodeIndex]
        self.kind = int(max(code.builtinCode, code.deprecatedBuiltinCode))
        self.options = operator.builtinOptions
        tensors = graph.subgraphs[0].tensors
        self.tensors = [_Tensor(graph, tensors[n]) for n in operator.inputs if n >= 0]
        self.input, self.output = self.tensors[0], _Tensor(graph, tensors[operator.outputs[0]])
        relu = getattr(self.options, "fusedActivationFunction", _NONE)
        one_dilation = all(
            getattr(self.options, side, 1) == 1 for side in ("dilationWFactor", "dilationHFactor")
        )
        if (
            self.kind not in (*_TEMPLATES, _RESHAPE)
            or relu not in (_NONE, _RELU)
            or not (one_dilation)
        ):
            raise ModelFileError(
                f"the native format in int8 does not cover the operator that makes"
                f" {self.output.name} (TFLite's number {self.kind}); leave out int8"
            )
        self.low = self.output.zero if relu == _RELU else -128


class _Graph:
    """A .tflite file as one chain of operators."""

    def __init__(self, content: bytes) -> None:
        graph = read_tflite(content)
        main = graph.subgraphs[0]
        self.operators = [_Operator(graph, one) for one in main.operators]
        self.input = _Tensor(graph, main.tensors[main.inputs[0]])


def _call(one: _Operator, name: str, where: str, to: str) -> str:
    rows, cols, *_ = (*one.output.shape[1:], 0)
    numbers = f"{name}_bias, {name}_multipliers, {name}_shifts, {one.output.zero}, {one.low}"
    if one.kind == _DENSE:
        count, outputs = math.prod(one.input.shape[1:]), one.output.shape[-1]
        return (
            f"  dense({where}, {count}, {one.input.zero}, {name}_weights,\n"
            f"        {numbers}, {to}, {outputs});"
        )
    _, in_rows, in_cols, channels = one.input.shape
    options = one.options
    pooled = one.kind == _MAX_POOL
    size = (options.filterHeight, options.filterWidth) if pooled else one.tensors[1].shape[1:3]
    strides = options.strideH, options.strideW
    padding = [
        max((out - 1) * step + length - before, 0) // 2 if options.padding == _SAME else 0
        for out, step, length, before in zip((rows, cols), strides, size, (in_rows, in_cols),
                                             strict=True)
    ]  # fmt: skip
    shape = ", ".join(map(str, (*size, *strides, *padding)))
    if pooled:
        return (
            f"  max_pool({where}, {in_rows}, {in_cols}, {channels}, {shape}, {one.low},"
            f" {to}, {rows}, {cols});"
        )
    return (
        f"  convolve({where}, {in_rows}, {in_cols}, {channels}, {one.input.zero}, {name}_weights,\n"
        f"           {shape}, {numbers},\n"
        f"           {to}, {rows}, {cols}, {one.output.shape[-1]});"
    )


def _arrays(one: _Operator, name: str) -> list[str]:
    weights = one.tensors[1]
    outputs = one.output.shape[-1]
    bias = one.tensors[2].values() if len(one.tensors) > 2 else np.zeros(outputs, np.int32)
    scales = weights.scales if len(weights.scales) > 1 else weights.scales * outputs
    # As TensorFlow Lite multiplies them: the scales are floats, their product is a double.
    pairs = [_fixed_point(one.input.scale * scale / one.output.scale) for scale in scales]
    multipliers, shifts = (np.array(side) for side in zip(*pairs, strict=True))
    return [
        f"/* {one.output.name}: {' x '.join(map(str, weights.shape))} weights */\n"
        + array("int8_t", f"{name}_weights", weights.values()),
        array("int32_t", f"{name}_bias", bias),
        array("int32_t", f"{name}_multipliers", multipliers),
        array("int8_t", f"{name}_shifts", shifts),
    ]


def _fixed_point(scale: float) -> tuple[int, int]:
    """Return the multiplier of 31 bits and the shift to the left that stand for `scale`.

    Source: TensorFlow Lite's QuantizeMultiplier.
    """
    fraction, shift = math.frexp(scale)
    multiplier = math.floor(fraction * (1 << 31) + 0.5)
    if multiplier == 1 << 31:
        multiplier, shift = multiplier // 2, shift + 1
    return (0, 0) if shift < -31 else (multiplier, shift)
