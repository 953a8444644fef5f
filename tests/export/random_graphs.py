"""Random .tflite graphs: every operator that the C files cover, in every order.

A graph is a pool of tensors; each step takes tensors of it and adds the output of an operator. All
tensors that nothing reads are outputs. One library holds many graphs, because a compiler takes as
long to start as to compile one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.export.tflite_files import File

KINDS = (
    "CONV_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MAX_POOL_2D", "AVERAGE_POOL_2D",
    "MEAN", "ADD", "SUB", "MUL", "CONCATENATION", "PAD", "RESHAPE", "SOFTMAX", "LOGISTIC", "TANH",
    "RELU", "RELU6", "LEAKY_RELU", "QUANTIZE", "RESIZE_NEAREST_NEIGHBOR",
)  # fmt: skip
_MAX_ELEMENTS = 6000


@dataclass
class Tensor:
    index: int
    shape: tuple[int, ...]
    scale: float
    zero: int
    uses: int = 0


@dataclass
class RandomGraph:
    """A graph that grows by random operators.

    Attributes:
        random: the source of all choices.
        dtype: "int8", "uint8" or "float32".
    """

    random: np.random.Generator
    dtype: str = "int8"
    file: File = field(default_factory=File)
    tensors: list[Tensor] = field(default_factory=list)

    def build(self, steps: int, inputs: int = 1, kinds: tuple[str, ...] = KINDS) -> bytes:
        """Return a .tflite file of about `steps` operators."""
        for _ in range(inputs):
            shape = (1, *(int(n) for n in self.random.integers(1, 13, 2)), self.size(9))
            scale, zero = self.quantization()
            index = self.file.input(shape, self.dtype, scale, zero)
            self.tensors.append(Tensor(index, shape, scale, zero))
        for _ in range(steps):
            kind = str(self.random.choice(kinds))
            getattr(self, kind.lower())(self.pick())
        unread = [each.index for each in self.tensors if not each.uses]
        outputs = [index for index in unread if index not in self.file.inputs]
        return self.file.finish(outputs or [self.tensors[-1].index])

    # ---- choices -------------------------------------------------------------------------------

    def size(self, most: int) -> int:
        return int(self.random.integers(1, most + 1))

    def flip(self, chance: float = 0.5) -> bool:
        return bool(self.random.random() < chance)

    def quantization(self) -> tuple[float, int]:
        scale = float(np.float32(2.0 ** self.random.uniform(-9, -2)))
        if self.flip(0.1):
            scale = 2.0 ** -self.size(7)
        low = 0 if self.dtype == "uint8" else -128
        zero = low if self.flip(0.4) else int(self.random.integers(low, low + 256))
        return scale, zero

    def activation(self) -> int:
        return int(self.random.choice([0, 0, 1, 1, 3, 2]))

    def pick(self, rank: int | None = None) -> Tensor:
        recent = self.tensors[-6:]
        fitting = [each for each in recent if rank is None or len(each.shape) == rank]
        fitting = fitting or [each for each in self.tensors if len(each.shape) == rank]
        return fitting[int(self.random.integers(len(fitting)))]

    def add_tensor(self, shape: Any, like: Tensor | None = None, **facts: Any) -> Tensor:
        shape = tuple(int(size) for size in shape)
        scale, zero = (like.scale, like.zero) if like else self.quantization()
        scale, zero = facts.get("scale", scale), facts.get("zero", zero)
        index = self.file.tensor(shape, self.dtype, scale, zero)
        made = Tensor(index, shape, scale, zero)
        self.tensors.append(made)
        return made

    def image(self, source: Tensor) -> Tensor:
        return source if len(source.shape) == 4 else self.pick(4)

    def weights(self, shape: Any, source: Tensor, out: Tensor, axis: int, count: int) -> list[int]:
        """Add weights and a bias that use the range of the output."""
        inputs = int(np.prod(shape)) // shape[axis]
        if self.dtype == "float32":
            values = self.random.standard_normal(shape).astype(np.float32) / np.float32(inputs**0.5)
            bias = self.random.standard_normal(count).astype(np.float32)
            return [self.file.constant(values), self.file.constant(bias)]
        is_int4 = self.dtype == "int8" and self.flip(0.3)
        spread = 70 * (4 if is_int4 else 70) * inputs**0.5  # of the sums
        wanted = out.scale * 60 / (source.scale * spread)
        scales = wanted * 2.0 ** self.random.uniform(-2, 1, count)
        if self.dtype == "uint8" or self.flip(0.3):
            scales = scales[:1]
        scales = [float(np.float32(scale)) for scale in scales]
        low, high, zero = -127, 128, 0
        if self.dtype == "uint8":
            low, high, zero = 0, 256, int(self.random.integers(0, 256))
        if is_int4:
            low, high = -8, 8
        values = self.random.integers(low, high, shape).astype(self.dtype)
        dtype = "int4" if is_int4 else self.dtype
        found = [self.file.constant(values, dtype, scale=scales, zero=zero, axis=axis)]
        if len(shape) == 4 or self.flip(0.8):  # convolutions need one
            bias = self.random.integers(-spread, spread + 1, count).astype(np.int32)
            bias_scales = [float(np.float32(np.float32(source.scale) * np.float32(scale)))
                           for scale in scales]  # fmt: skip
            found.append(self.file.constant(bias, scale=bias_scales))
        return found

    def windows(self, source: Tensor, most: int) -> tuple[list[int], list[int], list[int], int]:
        """Return window, strides, dilations and padding that fit an image."""
        _, rows, cols, _ = source.shape
        padding = int(self.random.integers(2))
        window, strides, dilations = [], [], []
        for size in (rows, cols):
            limit = size if padding == 1 else most
            window.append(min(self.size(most), limit))
            strides.append(self.size(3))
            dilations.append(
                self.size(2) if padding == 0 or (window[-1] - 1) * 2 + 1 <= size else 1
            )
        if self.flip(0.7):
            dilations = [1, 1]
        elif any(step != 1 for step in strides) and self.flip():
            strides = [1, 1]
        return window, strides, dilations, padding

    @staticmethod
    def output(
        source: Tensor, window: Any, strides: Any, dilations: Any, padding: int
    ) -> list[int]:
        sizes = []
        for size, length, stride, dilation in zip(
            source.shape[1:3], window, strides, dilations, strict=True
        ):
            reach = (length - 1) * dilation + 1
            sizes.append(-(-size // stride) if padding == 0 else (size - reach + stride) // stride)
        return sizes

    def run(
        self, kind: str, sources: list[Tensor], out: Tensor, *more: int, **options: Any
    ) -> None:
        for source in sources:
            source.uses += 1
        inputs = [source.index for source in sources]
        self.file.operator(kind, [*inputs, *more], out.index, **options)

    # ---- operators -----------------------------------------------------------------------------

    def conv_2d(self, source: Tensor) -> None:
        source = self.image(source)
        window, strides, dilations, padding = self.windows(source, 4)
        filters = self.size(20)
        sizes = self.output(source, window, strides, dilations, padding)
        out = self.add_tensor((1, *sizes, filters))
        shape = (filters, *window, source.shape[3])
        more = self.weights(shape, source, out, 0, filters)
        self.run("CONV_2D", [source], out, *more, padding=padding, strideH=strides[0],
                 strideW=strides[1], dilationHFactor=dilations[0], dilationWFactor=dilations[1],
                 fusedActivationFunction=self.activation())  # fmt: skip

    def depthwise_conv_2d(self, source: Tensor) -> None:
        source = self.image(source)
        window, strides, dilations, padding = self.windows(source, 4)
        multiplier = 1 if self.flip(0.7) else self.size(3)
        channels = source.shape[3] * multiplier
        sizes = self.output(source, window, strides, dilations, padding)
        out = self.add_tensor((1, *sizes, channels))
        more = self.weights((1, *window, channels), source, out, 3, channels)
        self.run("DEPTHWISE_CONV_2D", [source], out, *more, padding=padding, strideH=strides[0],
                 strideW=strides[1], dilationHFactor=dilations[0], dilationWFactor=dilations[1],
                 depthMultiplier=multiplier, fusedActivationFunction=self.activation())  # fmt: skip

    def fully_connected(self, source: Tensor) -> None:
        outputs = self.size(24)
        inputs = int(np.prod(source.shape))
        if inputs > 2000:
            return
        out = self.add_tensor((1, outputs))
        more = self.weights((outputs, inputs), source, out, 0, outputs)
        self.run("FULLY_CONNECTED", [source], out, *more,
                 fusedActivationFunction=self.activation())  # fmt: skip

    def pool(self, kind: str, source: Tensor) -> None:
        source = self.image(source)
        window, strides, _, padding = self.windows(source, 4)
        if self.flip():
            strides = list(window)
        sizes = self.output(source, window, strides, (1, 1), padding)
        out = self.add_tensor((1, *sizes, source.shape[3]), source)
        self.run(kind, [source], out, padding=padding, strideH=strides[0], strideW=strides[1],
                 filterHeight=window[0], filterWidth=window[1],
                 fusedActivationFunction=self.activation())  # fmt: skip

    def max_pool_2d(self, source: Tensor) -> None:
        self.pool("MAX_POOL_2D", source)

    def average_pool_2d(self, source: Tensor) -> None:
        self.pool("AVERAGE_POOL_2D", source)

    def mean(self, source: Tensor) -> None:
        rank = len(source.shape)
        axes = (
            [1, 2]
            if rank == 4 and self.flip()
            else (sorted(int(axis) for axis in self.random.permutation(rank)[: self.size(rank)]))
        )
        keeps = self.flip()
        shape = [1 if n in axes else size for n, size in enumerate(source.shape)
                 if keeps or n not in axes]  # fmt: skip
        if not shape:
            return
        out = self.add_tensor(shape)
        self.run("MEAN", [source], out, self.file.constant(np.array(axes, np.int32)),
                 keepDims=keeps)  # fmt: skip

    def binary(self, kind: str, source: Tensor) -> None:
        same = [each for each in self.tensors if each.shape == source.shape]
        other = same[int(self.random.integers(len(same)))]
        shape = source.shape
        options = {"fusedActivationFunction": self.activation()}
        if self.flip(0.4):  # a constant, repeated along some axes
            own = [size if self.flip() else 1 for size in shape]
            scale, zero = self.quantization()
            if self.dtype == "float32":
                values = self.random.standard_normal(own).astype(np.float32)
            else:
                low = 0 if self.dtype == "uint8" else -128
                values = self.random.integers(low, low + 256, own).astype(self.dtype)
            index = self.file.constant(values, scale=scale, zero=zero)
            other = Tensor(index, tuple(own), scale, zero)
        out = self.add_tensor(shape)
        pair = [source, other] if self.flip() else [other, source]
        self.run(kind, pair, out, **options)

    def add(self, source: Tensor) -> None:
        self.binary("ADD", source)

    def sub(self, source: Tensor) -> None:
        self.binary("SUB", source)

    def mul(self, source: Tensor) -> None:
        self.binary("MUL", source)

    def concatenation(self, source: Tensor) -> None:
        axis = self.size(len(source.shape) - 1) if len(source.shape) > 1 else 0
        sources = [source]
        for other in self.tensors[-5:]:
            if (
                len(other.shape) == len(source.shape)
                and (other.scale, other.zero) == (source.scale, source.zero)
                and all(a == b for n, (a, b) in enumerate(
                    zip(other.shape, source.shape, strict=True)) if n != axis)
            ):  # fmt: skip
                sources.append(other)
        if sum(int(np.prod(each.shape)) for each in sources) > _MAX_ELEMENTS:
            return
        shape = list(source.shape)
        shape[axis] = sum(each.shape[axis] for each in sources)
        out = self.add_tensor(shape, source)
        self.run("CONCATENATION", sources, out, axis=axis - len(shape) if self.flip() else axis)

    def pad(self, source: Tensor) -> None:
        amounts = self.random.integers(0, 3, (len(source.shape), 2)).astype(np.int32)
        amounts[0] = 0
        if len(source.shape) == 4 and self.flip(0.7):
            amounts[3] = 0
        shape = [size + int(pair.sum()) for size, pair in zip(source.shape, amounts, strict=True)]
        if np.prod(shape) > _MAX_ELEMENTS:
            return
        out = self.add_tensor(shape, source)
        self.run("PAD", [source], out, self.file.constant(amounts))

    def reshape(self, source: Tensor) -> None:
        size = int(np.prod(source.shape))
        shape: tuple[int, ...] = (1, size)
        if self.flip():
            rows = next(n for n in (4, 3, 2, 1) if size % n == 0)
            cols = next(n for n in (5, 4, 3, 2, 1) if size // rows % n == 0)
            shape = (1, rows, cols, size // rows // cols)
        out = self.add_tensor(shape, source)
        new = self.file.constant(np.array(shape, np.int32))
        self.run("RESHAPE", [source], out, new, newShape=list(shape))

    def softmax(self, source: Tensor) -> None:
        low = 0 if self.dtype == "uint8" else -128
        out = self.add_tensor(source.shape, scale=1 / 256, zero=low)
        self.run("SOFTMAX", [source], out, beta=1.0 if self.flip(0.7) else 0.5)

    def logistic(self, source: Tensor) -> None:
        low = 0 if self.dtype == "uint8" else -128
        self.run("LOGISTIC", [source], self.add_tensor(source.shape, scale=1 / 256, zero=low))

    def tanh(self, source: Tensor) -> None:
        zero = 128 if self.dtype == "uint8" else 0
        self.run("TANH", [source], self.add_tensor(source.shape, scale=1 / 128, zero=zero))

    def relu(self, source: Tensor) -> None:
        self.run("RELU", [source], self.add_tensor(source.shape))

    def relu6(self, source: Tensor) -> None:
        self.run("RELU6", [source], self.add_tensor(source.shape))

    def leaky_relu(self, source: Tensor) -> None:
        alpha = float(self.random.choice([0.1, 0.25, 0.5]))
        self.run("LEAKY_RELU", [source], self.add_tensor(source.shape), alpha=alpha)

    def quantize(self, source: Tensor) -> None:
        if self.dtype != "float32":
            self.run("QUANTIZE", [source], self.add_tensor(source.shape))

    def resize_nearest_neighbor(self, source: Tensor) -> None:
        source = self.image(source)
        sizes = [self.size(12), self.size(12)]
        if sizes[0] * sizes[1] * source.shape[3] > _MAX_ELEMENTS:
            return
        out = self.add_tensor((1, *sizes, source.shape[3]), source)
        aligned = self.flip(0.3)
        self.run("RESIZE_NEAREST_NEIGHBOR", [source], out,
                 self.file.constant(np.array(sizes, np.int32)), alignCorners=aligned,
                 halfPixelCenters=not aligned and self.flip())  # fmt: skip
