"""Translation of layers to C with floats: arrays, buffers and calls of kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.export.native.network import Conv, Dense, NativeLayer, Pool, Shape
from lenet_edge.export.native.text import array

Floats = npt.NDArray[np.floating[Any]]
MOST_LANES = 16  # floats in the widest vectors (AVX-512)
# F(2 x 2, 3 x 3): kernel -> G kernel G'.
# Source: A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks", 2016.
_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])


class Calls:
    """The arrays, stack buffers and kernel calls of a network."""

    def __init__(self, int8: bool, lanes: int = MOST_LANES) -> None:
        """Pad filters and outputs to `lanes`, the width of the widest vectors."""
        self._int8, self._lanes = int8, lanes
        self.arrays: list[str] = []
        self._buffers: dict[str, int] = {}
        self.kernels: set[str] = set()
        self._calls: list[str] = []

    @property
    def stack_bytes(self) -> int:
        """Bytes of all buffers; a float and an int have four bytes."""
        return 4 * sum(self._buffers.values())

    def body(self, layers: Sequence[NativeLayer], image: Shape, classes: int) -> str:
        """Return the body of the C function ``run``, which computes ``logits`` from ``image``."""
        index, source = 0, "image"
        size = math.prod(image)
        while index < len(layers):
            layer, rest = layers[index], layers[index:]
            if isinstance(layer, Dense):
                source, size = self._dense(source, size, layer, index)
                index += 1
            elif isinstance(layer, Pool):
                source, size = self._pool(source, layer, index)
                index += 1
            elif _is_pair(rest):
                source, size = self._pair(source, rest, index)
                index += 4
            else:
                after = rest[1] if len(rest) > 1 else None
                pool = after if isinstance(after, Pool) and after.halves else None
                source, size = self._conv(source, layer, index, pool)
                index += 2 if pool else 1
        self._call(f"memcpy(logits, {source}, {classes} * sizeof *logits)")
        lines = [f"  _Alignas(64) float {name}[{size}];" for name, size in self._buffers.items()]
        if "places" in self._buffers:
            lines[list(self._buffers).index("places")] = f"  int places[{self._buffers['places']}];"
        return "\n".join([*lines, "", *self._calls, ""])

    def _buffer(self, name: str, size: int) -> str:
        self._buffers[name] = -(-size // 16) * 16
        return name

    def _up(self, size: int) -> int:
        return -(-size // self._lanes) * self._lanes

    def _padded(self, values: Floats) -> Floats:
        """Return the array with its last axis padded with zeros to a multiple of the lanes."""
        missing = self._up(values.shape[-1]) - values.shape[-1]
        return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)])

    def _call(self, text: str) -> None:
        line = "  "
        for word in f"{text};".split():
            if len(line) + len(word) > 98:
                self._calls.append(line.rstrip())
                line = "      "
            line += f"{word} "
        self._calls.append(line.rstrip())

    def _weights(self, name: str, layer: Conv | Dense, values: Floats) -> str:
        """Add the weights and the padded biases; return the arguments that name them."""
        bias = self._padded(layer.bias)
        self.arrays += [
            f"/* {layer.name}: {' x '.join(map(str, layer.kernel.shape))} weights */\n"
            + array("float", f"{name}_weights", values.astype(np.float32), aligned=True),
            array("float", f"{name}_bias", bias, aligned=True),
        ]
        return f"{name}_weights, {name}_bias, {int(layer.relu)}"

    def _pair(self, source: str, layers: Sequence[NativeLayer], index: int) -> tuple[str, int]:
        first, _, second, pool = layers[:4]
        assert isinstance(first, Conv)
        assert isinstance(second, Conv)
        assert isinstance(pool, Pool)
        self.kernels |= {"part", "pair"}
        height, width, _ = first.input_shape
        tile_rows, tile_cols, filters = pool.output_shape
        channels, rows, cols = first.kernel.shape[-1], tile_rows + 1, tile_cols + 1
        a, b = f"conv{index}", f"conv{index + 2}"
        of_first = self._weights(
            a,
            first,
            _winograd(first)[:, 0].T,  # of shape (filter, point)
        )
        of_second = self._weights(b, second, self._padded(_winograd(second)))
        size = -(-((rows + 1) * cols + 8) // 16) * 16
        pooled_size, tiles_size = -(-rows * cols // 16) * 16, -(-tile_rows * cols // 16) * 16
        planes = self._buffer("planes", 24 * size)
        pooled = self._buffer("pooled", 4 * channels * pooled_size)
        tiles = self._buffer("tiles", 16 * channels * tiles_size)
        out = self._buffer(f"after{index + 2}", tile_rows * tile_cols * filters)
        self._call(f"split_image({source}, {height}, {width}, {rows}, {cols}, {planes}, {size})")
        self._call(f"convolve_image({planes}, {size}, {rows}, {cols}, {channels}, {of_first},"
                   f" {pooled}, {pooled_size})")  # fmt: skip
        self._call(f"tiles_of({pooled}, {pooled_size}, {channels}, {tile_rows}, {tile_cols},"
                   f" {tiles}, {tiles_size})")  # fmt: skip
        self._call(f"convolve_tiles({tiles}, {tiles_size}, {channels}, {tile_rows}, {tile_cols},"
                   f" {filters}, {self._up(filters)}, {of_second}, {out})")  # fmt: skip
        return out, tile_rows * tile_cols * filters

    def _conv(self, source: str, conv: Conv, index: int, pool: Pool | None) -> tuple[str, int]:
        self.kernels |= {"part", "conv"}
        height, width, channels = conv.input_shape
        kernel_rows, kernel_cols, _, filters = conv.kernel.shape
        above, below, left, right = conv.padding if conv.same else (0, 0, 0, 0)
        if above or below or left or right:
            self.kernels.add("pad")
            rows, line = height + above + below, (width + left + right) * channels
            padded = self._buffer(f"padded{index}", rows * line)
            self._call(f"pad({source}, {height}, {width * channels}, {above}, {left * channels},"
                       f" {rows}, {line}, {padded})")  # fmt: skip
            source = padded
        line = (width + left + right) * channels
        weights = self._weights(
            f"conv{index}", conv, self._padded(conv.kernel.reshape(kernel_rows, -1, filters))
        )
        after = pool or conv
        size = math.prod(after.output_shape)
        out = self._buffer(f"after{index}", size)
        rows, cols, _ = after.output_shape
        self._call(f"convolve({source}, {line}, {line * conv.strides[0]},"
                   f" {channels * conv.strides[1]}, {kernel_rows}, {kernel_cols * channels},"
                   f" {rows}, {cols}, {filters}, {self._up(filters)}, {weights},"
                   f" {int(pool is not None)}, {out})")  # fmt: skip
        return out, size

    def _pool(self, source: str, pool: Pool, index: int) -> tuple[str, int]:
        self.kernels.add("pool")
        above, _, left, _ = pool.padding if pool.same else (0, 0, 0, 0)
        size = math.prod(pool.output_shape)
        out = self._buffer(f"after{index}", size)
        numbers = (*pool.input_shape, *pool.size, *pool.strides, above, left,
                   *pool.output_shape[:2])  # fmt: skip
        self._call(f"max_pool({source}, {', '.join(map(str, numbers))}, {out})")
        return out, size

    def _dense(self, source: str, size: int, dense: Dense, index: int) -> tuple[str, int]:
        self.kernels.add("dense")
        name, (inputs, outputs) = f"dense{index}", dense.kernel.shape
        places = 2 * inputs if self._int8 else inputs  # dense_int8_neon.c stores pairs
        self._buffers["places"] = max(self._buffers.get("places", 0), places)
        out = self._buffer(f"after{index}", self._up(outputs))
        kernel, scales = self._padded(dense.kernel), "NULL"
        title = f"/* {dense.name}: {inputs} x {outputs} weights */\n"
        if self._int8:
            # One scale per output, as in TensorFlow Lite's dynamic-range quantization.
            output_scales = np.abs(dense.kernel).max(axis=0) / 127
            output_scales[output_scales == 0] = 1
            rounded = np.rint(self._padded(dense.kernel / output_scales)).astype(np.int8)
            scales = f"{name}_scales"
            self.arrays += [
                title + array("int8_t", f"{name}_weights", rounded, aligned=True),
                array("float", scales, self._padded(output_scales), aligned=True),
            ]
        else:
            self.arrays.append(title + array("float", f"{name}_weights", kernel, aligned=True))
        self.arrays.append(array("float", f"{name}_bias", self._padded(dense.bias), aligned=True))
        self._call(f"dense({source}, {inputs}, {name}_weights, {scales}, {name}_bias,"
                   f" {self._up(outputs)}, {int(dense.relu)}, places, {out})")  # fmt: skip
        return out, outputs


def _is_pair(layers: Sequence[NativeLayer]) -> bool:
    """Tell whether `pair.c` can compute the next four layers."""
    if len(layers) < 4:
        return False
    first, first_pool, second, second_pool = layers[:4]
    for conv, pool in ((first, first_pool), (second, second_pool)):
        if not (isinstance(conv, Conv) and isinstance(pool, Pool) and pool.halves):
            return False
        if conv.kernel.shape[:2] != (3, 3) or conv.strides != (1, 1) or any(conv.padding):
            return False
    rows, cols, _ = second_pool.output_shape  # type: ignore[union-attr]
    channels = first.input_shape[-1]  # type: ignore[union-attr]
    # The kernels need five tiles side by side, and enough tiles to fill the widest vector.
    return channels == 1 and cols >= 5 and rows * (cols + 1) - 1 >= MOST_LANES


def _winograd(conv: Conv) -> Floats:
    """Return the Winograd transform of a kernel: float64 of shape (16, channels, filters)."""
    kernel: Floats = np.einsum("ir,rcnk,jc->ijnk", _G, conv.kernel.astype(np.float64), _G)
    return kernel.reshape(16, *kernel.shape[2:])
