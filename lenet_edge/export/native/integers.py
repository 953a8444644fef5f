"""C files with int8 arithmetic: the integers and the rounding of the .tflite file."""

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
    """Return the C file without the comment at its top, its bytes of stack, and its tensors.

    Args:
        name: the name of the function.
        content: a full-integer int8 .tflite file.

    Raises:
        ModelFileError: the file has an operator that is not supported.
    """
    graph = _Graph(content)
    arrays: list[str] = []
    calls: list[str] = []
    kernels: set[str] = set()
    sizes = [0, 0]  # of two buffers: each layer reads one and writes the other
    source = "image"
    last = max(n for n, operator in enumerate(graph.operators) if operator.kind != _RESHAPE)
    for number, operator in enumerate(graph.operators):
        if operator.kind == _RESHAPE:
            continue
        target = "logits" if number == last else ("odd" if source == "even" else "even")
        if target != "logits":
            buffer = int(target == "odd")
            sizes[buffer] = max(sizes[buffer], math.prod(operator.output.shape[1:]))
        calls.append(_call(operator, f"layer{number}", source, target))
        kernels.add(_TEMPLATES[operator.kind])
        if operator.kind != _MAX_POOL:
            arrays += _arrays(operator, f"layer{number}")
        source = target
    inputs, outputs = graph.input, graph.operators[last].output
    pixels, classes = math.prod(inputs.shape[1:]), outputs.shape[-1]
    buffers = "".join(
        f"  int8_t {buffer_name}[{size}];\n"
        for buffer_name, size in zip(("even", "odd"), sizes, strict=True)
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
    """A tensor of the file: name, shape, scales, zero point, and values if it is a constant."""

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
    """An operator of the file: kind, options and tensors."""

    def __init__(self, graph: Any, operator: Any) -> None:
        code = graph.operatorCodes[operator.opcodeIndex]
        self.kind = int(max(code.builtinCode, code.deprecatedBuiltinCode))
        self.options = operator.builtinOptions
        tensors = graph.subgraphs[0].tensors
        self.tensors = [_Tensor(graph, tensors[n]) for n in operator.inputs if n >= 0]
        self.input, self.output = self.tensors[0], _Tensor(graph, tensors[operator.outputs[0]])
        relu = getattr(self.options, "fusedActivationFunction", _NONE)
        is_dilated = any(
            getattr(self.options, side, 1) != 1 for side in ("dilationWFactor", "dilationHFactor")
        )
        is_supported = self.kind in (*_TEMPLATES, _RESHAPE) and relu in (_NONE, _RELU)
        if not is_supported or is_dilated:
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
        self.operators = [_Operator(graph, operator) for operator in main.operators]
        self.input = _Tensor(graph, main.tensors[main.inputs[0]])


def _call(operator: _Operator, name: str, source: str, target: str) -> str:
    inputs, outputs = operator.input, operator.output
    rows, cols, *_ = (*outputs.shape[1:], 0)
    numbers = f"{name}_bias, {name}_multipliers, {name}_shifts, {outputs.zero}, {operator.low}"
    if operator.kind == _DENSE:
        count = math.prod(inputs.shape[1:])
        return (
            f"  dense({source}, {count}, {inputs.zero}, {name}_weights,\n"
            f"        {numbers}, {target}, {outputs.shape[-1]});"
        )
    _, in_rows, in_cols, channels = inputs.shape
    options = operator.options
    pooled = operator.kind == _MAX_POOL
    size = (options.filterHeight, options.filterWidth) if pooled else operator.tensors[1].shape[1:3]
    strides = options.strideH, options.strideW
    padding = [
        max((out - 1) * step + length - before, 0) // 2 if options.padding == _SAME else 0
        for out, step, length, before in zip((rows, cols), strides, size, (in_rows, in_cols),
                                             strict=True)
    ]  # fmt: skip
    shape = ", ".join(map(str, (*size, *strides, *padding)))
    if pooled:
        return (
            f"  max_pool({source}, {in_rows}, {in_cols}, {channels}, {shape}, {operator.low},"
            f" {target}, {rows}, {cols});"
        )
    return (
        f"  convolve({source}, {in_rows}, {in_cols}, {channels}, {inputs.zero}, {name}_weights,\n"
        f"           {shape}, {numbers},\n"
        f"           {target}, {rows}, {cols}, {outputs.shape[-1]});"
    )


def _arrays(operator: _Operator, name: str) -> list[str]:
    weights = operator.tensors[1]
    outputs = operator.output.shape[-1]
    bias = (
        operator.tensors[2].values() if len(operator.tensors) > 2 else np.zeros(outputs, np.int32)
    )
    scales = weights.scales if len(weights.scales) > 1 else weights.scales * outputs
    # TensorFlow Lite multiplies float scales to a double too.
    pairs = [_fixed_point(operator.input.scale * scale / operator.output.scale) for scale in scales]
    multipliers, shifts = (np.array(side) for side in zip(*pairs, strict=True))
    return [
        f"/* {operator.output.name}: {' x '.join(map(str, weights.shape))} weights */\n"
        + array("int8_t", f"{name}_weights", weights.values()),
        array("int32_t", f"{name}_bias", bias),
        array("int32_t", f"{name}_multipliers", multipliers),
        array("int8_t", f"{name}_shifts", shifts),
    ]


def _fixed_point(scale: float) -> tuple[int, int]:
    """Return the 31-bit multiplier and the left shift that represent `scale`.

    Source: TensorFlow Lite's QuantizeMultiplier.
    """
    fraction, shift = math.frexp(scale)
    multiplier = math.floor(fraction * (1 << 31) + 0.5)
    if multiplier == 1 << 31:
        multiplier, shift = multiplier // 2, shift + 1
    return (0, 0) if shift < -31 else (multiplier, shift)
