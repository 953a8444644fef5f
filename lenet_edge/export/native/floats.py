"""Write a network as C in floats; its dense layers' weights may be int8."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lenet_edge.errors import ModelFileError
from lenet_edge.export.native.network import Conv, Dense, Layer, Pool, Shape
from lenet_edge.export.native.text import array, prototypes, template

MAX_STACK_BYTES = 4 << 20
_PADDED_TO = 16  # filters and outputs, the lanes of the widest vectors
# Instruction sets that are asked for at run time, the best first: lanes, and what it is to have.
_LEVELS = {"avx512": (16, ("avx512f",)), "avx2": (8, ("avx2", "fma"))}
# F(2 x 2, 3 x 3): kernel -> G kernel G'.
# Source: A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks", 2016.
_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])


def write(name: str, layers: Sequence[Layer], image: Shape, int8: bool) -> tuple[str, int]:
    """Return the C file without the comment at its top, and the bytes of stack that it needs.

    Args:
        name: of the function.
        layers: as `network.read` gives them.
        image: height, width and channels.
        int8: whether the dense layers' weights are rounded to int8.

    Raises:
        ModelFileError: it needs more stack than a thread can be expected to have.
    """
    writer = _Writer(int8)
    body = writer.body(layers, image)
    stack_bytes = 4 * sum(writer.buffers.values())
    if stack_bytes > MAX_STACK_BYTES:
        raise ModelFileError(
            f"this network needs {stack_bytes >> 20} MiB for its activations, and the native format"
            f" keeps at most {MAX_STACK_BYTES >> 20} MiB, on the stack; choose another --format"
        )
    kernels = "\n".join(template(f"{one}.c") for one in _KERNELS if one in writer.kernels)
    kernels = kernels.replace("WEIGHT", "int8_t" if int8 else "float")
    kernels = kernels.replace("load_weights", "load_int8" if int8 else "load")
    run = f"static void run(const float *image, float *logits) {{\n{body}}}\n"
    vectors = template("vectors.c")
    if not int8:
        vectors, scalar = _without_int8(vectors), _without_int8(template("scalar.c"))
    else:
        scalar = template("scalar.c")
    if "pair" not in writer.kernels:
        vectors, scalar = _without(vectors, "/* to[i] ="), _without(scalar, "INLINE void take_")
    pixels, classes = math.prod(image), layers[-1].kernel.shape[-1]  # type: ignore[union-attr]
    parts = [
        template("start.c"),
        *(["#ifdef CHOOSE_AT_RUN_TIME\n#include <immintrin.h>\n#endif\n"] if int8 else []),
        prototypes(name, "float", pixels, classes),
        *writer.arrays,
        "#ifdef CHOOSE_AT_RUN_TIME\n",
        *(
            f"/* ---- {level}: the text below, for {lanes} lanes ---- */\n\n"
            + _at_level(f"{vectors}\n{kernels}\n{run}", level, lanes, needs)
            for level, (lanes, needs) in _LEVELS.items()
        ),
        "#endif\n",
        "#if LANES > 1\n" + vectors + "#else\n" + scalar + "#endif\n",
        kernels,
        run,
        _entrances(name, pixels, classes),
    ]
    return "\n".join(parts), stack_bytes


_KERNELS = ("part", "pair", "plain", "conv", "pool", "dense")


def _at_level(text: str, level: str, lanes: int, needs: Sequence[str]) -> str:
    """Return C text with its own names, for one instruction set, without the comments."""
    text = re.sub(r"^ *\/\*.*?\*\/\n|\ \/\*.*?\*\/", "", text, flags=re.DOTALL | re.MULTILINE)
    names = re.findall(r"^(?:INLINE|static) [^(]*?(\w+)\(", text, re.MULTILINE)
    names += re.findall(r"^typedef \w+ (\w+)", text, re.MULTILINE)
    for name in names:
        text = re.sub(rf"(?<!#define )\b{name}\b", f"{name}_{level}", text)
    target = f'__attribute__((target("{",".join(needs)}")))'
    text = re.sub(r"^(INLINE|static) ", rf"\1_{level.upper()} ", text, flags=re.MULTILINE)
    text = re.sub(r"\bLANES\b", str(lanes), text)
    defined = "".join(
        f"#define {word}_{level.upper()} {word} {target}\n" for word in ("INLINE", "static")
    )
    return f"{defined}\n{text}"


def _without_int8(text: str) -> str:
    text = re.sub(r"^typedef int8_t bytes.*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"^INLINE vec load_int8.*(?:\n(?: |#).*)*\n(?:}\n)?", "", text, flags=re.MULTILINE)


def _without(text: str, start: str) -> str:
    return text[: text.index(start)]


def _entrances(name: str, pixels: int, classes: int) -> str:
    choices = ""
    for level, (_, needs) in _LEVELS.items():
        asked = " && ".join(f'__builtin_cpu_supports("{one}")' for one in needs)
        choices += f"  if ({asked})\n    return run_{level};\n"
    return f"""typedef void network(const float *image, float *logits);

static network *best_here(void) {{
#ifdef CHOOSE_AT_RUN_TIME
{choices}#endif
  return run;
}}

void {name}(const float image[{pixels}], float logits[{classes}]) {{
  best_here()(image, logits);
}}

void {name}_batch(const float *images, float *logits, size_t count) {{
  network *const best = best_here();
  for (size_t n = 0; n < count; n++)
    best(images + {pixels} * n, logits + {classes} * n);
}}
"""


class _Writer:
    """What a network's layers become: arrays, buffers on the stack, and calls."""

    def __init__(self, int8: bool) -> None:
        self._int8 = int8
        self.arrays: list[str] = []
        self.buffers: dict[str, int] = {}
        self.kernels: set[str] = set()
        self._calls: list[str] = []

    def body(self, layers: Sequence[Layer], image: Shape) -> str:
        """Return the inside of ``run``, which takes ``image`` and fills ``logits``."""
        at, where = 0, "image"
        size = math.prod(image)
        while at < len(layers):
            one, rest = layers[at], layers[at:]
            if isinstance(one, Dense):
                where, size = self._dense(where, size, one, number=at)
                at += 1
            elif isinstance(one, Pool):
                where, size = self._pool(where, one, at)
                at += 1
            elif _is_pair(rest):
                where, size = self._pair(where, rest, at)
                at += 4
            else:
                pool = rest[1] if len(rest) > 1 else None
                halved = isinstance(pool, Pool) and pool.halves
                where, size = self._conv(where, one, at, pool if halved else None)
                at += 2 if halved else 1
        outputs = layers[-1].kernel.shape[-1]  # type: ignore[union-attr]
        self._call(f"memcpy(logits, {where}, {outputs} * sizeof *logits)")
        lines = [f"  _Alignas(64) float {name}[{size}];" for name, size in self.buffers.items()]
        if "places" in self.buffers:
            lines[list(self.buffers).index("places")] = f"  int places[{self.buffers['places']}];"
        return "\n".join([*lines, "", *self._calls, ""])

    def _buffer(self, name: str, size: int) -> str:
        self.buffers[name] = -(-size // 16) * 16
        return name

    def _call(self, text: str) -> None:
        line = "  "
        for word in f"{text};".split():
            if len(line) + len(word) > 98:
                self._calls.append(line.rstrip())
                line = "      "
            line += f"{word} "
        self._calls.append(line.rstrip())

    def _weights(self, name: str, layer: Conv | Dense, values: npt.NDArray[np.float64]) -> str:
        """Write an array of weights and one of biases; the last axis becomes padded."""
        bias = _padded(layer.bias)
        self.arrays += [
            f"/* {layer.name}: {' x '.join(map(str, layer.kernel.shape))} weights */\n"
            + array("float", f"{name}_weights", values.astype(np.float32), aligned=True),
            array("float", f"{name}_bias", bias, aligned=True),
        ]
        return f"{name}_weights, {name}_bias, {int(layer.relu)}"

    def _pair(self, where: str, layers: Sequence[Layer], at: int) -> tuple[str, int]:
        first, _, second, pool = layers[:4]
        assert isinstance(first, Conv) and isinstance(second, Conv) and isinstance(pool, Pool)
        self.kernels |= {"part", "pair"}
        height, width, _ = first.input_shape
        tile_rows, tile_cols, filters = pool.output_shape
        channels, rows, cols = first.kernel.shape[-1], tile_rows + 1, tile_cols + 1
        a, b = f"conv{at}", f"conv{at + 2}"
        of_first = self._weights(
            a, first, _winograd(first)[:, 0].T  # of shape (filter, point)
        )
        of_second = self._weights(b, second, _padded(_winograd(second)))
        size = -(-((rows + 1) * cols + 8) // 16) * 16
        pooled_size, tiles_size = -(-rows * cols // 16) * 16, -(-tile_rows * cols // 16) * 16
        planes = self._buffer("planes", 24 * size)
        pooled = self._buffer("pooled", 4 * channels * pooled_size)
        tiles = self._buffer("tiles", 16 * channels * tiles_size)
        out = self._buffer(f"after{at + 2}", tile_rows * tile_cols * filters)
        self._call(f"split_image({where}, {height}, {width}, {rows}, {cols}, {planes}, {size})")
        self._call(f"convolve_image({planes}, {size}, {rows}, {cols}, {channels}, {of_first},"
                   f" {pooled}, {pooled_size})")  # fmt: skip
        self._call(f"tiles_of({pooled}, {pooled_size}, {channels}, {tile_rows}, {tile_cols},"
                   f" {tiles}, {tiles_size})")  # fmt: skip
        self._call(f"convolve_tiles({tiles}, {tiles_size}, {channels}, {tile_rows}, {tile_cols},"
                   f" {filters}, {_up(filters)}, {of_second}, {out})")  # fmt: skip
        return out, tile_rows * tile_cols * filters

    def _conv(self, where: str, conv: Conv, at: int, pool: Pool | None) -> tuple[str, int]:
        self.kernels |= {"part", "conv"}
        height, width, channels = conv.input_shape
        kernel_rows, kernel_cols, _, filters = conv.kernel.shape
        above, below, left, right = conv.padding if conv.same else (0, 0, 0, 0)
        if above or below or left or right:
            self.kernels.add("plain")
            rows, line = height + above + below, (width + left + right) * channels
            padded = self._buffer(f"padded{at}", rows * line)
            self._call(f"pad({where}, {height}, {width * channels}, {above}, {left * channels},"
                       f" {rows}, {line}, {padded})")  # fmt: skip
            where = padded
        line = (width + left + right) * channels
        weights = self._weights(
            f"conv{at}", conv, _padded(conv.kernel.reshape(kernel_rows, -1, filters))
        )
        after = pool or conv
        size = math.prod(after.output_shape)
        out = self._buffer(f"after{at}", size)
        rows, cols, _ = after.output_shape
        self._call(f"convolve({where}, {line}, {line * conv.strides[0]},"
                   f" {channels * conv.strides[1]}, {kernel_rows}, {kernel_cols * channels},"
                   f" {rows}, {cols}, {filters}, {_up(filters)}, {weights},"
                   f" {int(pool is not None)}, {out})")  # fmt: skip
        return out, size

    def _pool(self, where: str, pool: Pool, at: int) -> tuple[str, int]:
        self.kernels.add("pool")
        above, _, left, _ = pool.padding if pool.same else (0, 0, 0, 0)
        size = math.prod(pool.output_shape)
        out = self._buffer(f"after{at}", size)
        numbers = (*pool.input_shape, *pool.size, *pool.strides, above, left,
                   *pool.output_shape[:2])  # fmt: skip
        self._call(f"max_pool({where}, {', '.join(map(str, numbers))}, {out})")
        return out, size

    def _dense(self, where: str, size: int, dense: Dense, number: int) -> tuple[str, int]:
        self.kernels.add("dense")
        name, (inputs, outputs) = f"dense{number}", dense.kernel.shape
        self.buffers["places"] = max(self.buffers.get("places", 0), inputs)
        out = self._buffer(f"after{number}", _up(outputs))
        kernel, scales = _padded(dense.kernel), "NULL"
        title = f"/* {dense.name}: {inputs} x {outputs} weights */\n"
        if self._int8:
            # A scale for each output, as in TensorFlow Lite's dynamic-range quantization.
            each = np.abs(dense.kernel).max(axis=0) / 127
            each[each == 0] = 1
            rounded = np.rint(_padded(dense.kernel / each)).astype(np.int8)
            scales = f"{name}_scales"
            self.arrays += [
                title + array("int8_t", f"{name}_weights", rounded, aligned=True),
                array("float", scales, _padded(each), aligned=True),
            ]
        else:
            self.arrays.append(title + array("float", f"{name}_weights", kernel, aligned=True))
        self.arrays.append(array("float", f"{name}_bias", _padded(dense.bias), aligned=True))
        self._call(f"dense({where}, {inputs}, {name}_weights, {scales}, {name}_bias,"
                   f" {_up(outputs)}, {int(dense.relu)}, places, {out})")  # fmt: skip
        return out, outputs


def _is_pair(layers: Sequence[Layer]) -> bool:
    """Tell whether `pair.c` can compute the next four layers."""
    if len(layers) < 4:
        return False
    first, one, second, two = layers[:4]
    for conv, pool in ((first, one), (second, two)):
        if not (isinstance(conv, Conv) and isinstance(pool, Pool) and pool.halves):
            return False
        if conv.kernel.shape[:2] != (3, 3) or conv.strides != (1, 1) or any(conv.padding):
            return False
    rows, cols, _ = two.output_shape  # type: ignore[union-attr]
    channels = first.input_shape[-1]  # type: ignore[union-attr]
    # Five tiles stand side by side, and the tiles fill the widest vector.
    return channels == 1 and cols >= 5 and rows * (cols + 1) - 1 >= _PADDED_TO


def _winograd(conv: Conv) -> npt.NDArray[np.float64]:
    """Return the kernel in Winograd's form: float64 of shape (16 points, channels, filters)."""
    kernel = np.einsum("ir,rcnk,jc->ijnk", _G, conv.kernel.astype(np.float64), _G)
    return kernel.reshape(16, *kernel.shape[2:])


def _up(size: int) -> int:
    return -(-size // _PADDED_TO) * _PADDED_TO


def _padded(values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Return an array with zeros at the end of its last axis, up to a multiple of 16."""
    missing = _up(values.shape[-1]) - values.shape[-1]
    return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)])
