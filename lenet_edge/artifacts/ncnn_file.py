"""The text of an ncnn model: the .param file, which lists the layers; weights are in a .bin file.

The files are untrusted: ncnn itself checks few of the sizes. It ignores text after the last layer,
so the contract is in a last line. The module needs only the standard library.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lenet_edge.artifacts.embedded import KEY, Data
from lenet_edge.errors import ModelFileError

MAGIC = "7767517"
WEIGHTS_SUFFIX = ".bin"
# Keys of a layer's parameters. Source: ncnn's wiki, "param and model file structure".
ARRAY = -23300  # the key of an array is this number minus the key of its parameter
SHAPES = 30  # four numbers for each output: axes, width, height, channels
_MAX_BYTES = 2**26
_MAX_LAYERS = 100_000
_MAX_SIZE = 2**24  # of one axis
MAX_VALUES = 2**28  # of an input


@dataclass
class NcnnLayer:
    """One line of a .param file.

    Attributes:
        kind: the type, such as "Convolution".
        inputs: names of the blobs that it reads.
        outputs: names of the blobs that it writes.
        params: the values by key; a list for an array.
    """

    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    params: dict[int, float | list[float]] = field(default_factory=dict)

    def number(self, key: int, default: int = 0) -> int:
        """Return a parameter that is one integer."""
        value = self.params.get(key, default)
        return int(value) if not isinstance(value, list) else default

    def shapes(self) -> list[tuple[int, ...]]:
        """Return the shape of each output, the channels first; none if the file does not tell."""
        values = self.params.get(SHAPES)
        numbers = [int(value) for value in values] if isinstance(values, list) else []
        if len(numbers) != 4 * len(self.outputs):
            return []
        rows = [numbers[at : at + 4] for at in range(0, len(numbers), 4)]
        found = [tuple(row[row[0] : 0 : -1]) for row in rows if 1 <= row[0] <= 3]
        return found if len(found) == len(rows) and all(map(_is_plausible, found)) else []


def _is_plausible(shape: tuple[int, ...]) -> bool:
    return all(0 < size <= _MAX_SIZE for size in shape)


def input_shape(layer: NcnnLayer) -> tuple[int, ...] | None:
    """Return the shape that an Input layer states, the channels first; None if it states none."""
    sizes = [layer.number(key) for key in (0, 1, 2)]
    stated = tuple(reversed([size for size in sizes if size]))
    return stated if stated and _is_plausible(stated) else None


def channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of an image in the layout of lenet-edge; other shapes stay."""
    return (*shape[1:], shape[0]) if len(shape) == 3 else shape


def blob_shapes(layers: Iterable[NcnnLayer]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the blobs that a file states, the channels first."""
    return {
        name: shape
        for layer in layers
        for name, shape in zip(layer.outputs, layer.shapes(), strict=False)
    }


def weights_names(path: Path) -> set[str]:
    """Return the name of the file with the weights of a .param file."""
    return {path.with_suffix(WEIGHTS_SUFFIX).name}


def check_weights(path: Path) -> None:
    """Check that the weights of a .param file are beside it.

    Raises:
        ModelFileError: they are not.
    """
    weights = path.with_suffix(WEIGHTS_SUFFIX)
    if not weights.is_file():
        raise ModelFileError(
            f"{path} has its weights in {weights.name}, which is missing; put it beside the file"
        )


def read_layers(path: Path) -> list[NcnnLayer]:
    """Return the layers of a .param file, in the order in which they run.

    Raises:
        ModelFileError: the file is damaged.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"it has more than {_MAX_BYTES:,} bytes")
        return _parse(path.read_text(encoding="utf-8"))
    except (ValueError, IndexError) as error:
        raise ModelFileError(f"{path} is damaged ({error}); export it again") from error


def _parse(text: str) -> list[NcnnLayer]:
    magic, counts, *lines = text.split("\n")
    if magic.strip() != MAGIC:
        raise ValueError(f"its first line is not {MAGIC}")
    num_layers, _ = map(int, counts.split())
    if not 0 < num_layers <= _MAX_LAYERS or num_layers > len(lines):
        raise ValueError(f"it has {len(lines):,} lines for {num_layers:,} layers")
    known: set[str] = set()
    layers = [_parse_line(line.split()) for line in lines[:num_layers]]
    for layer in layers:
        for name in layer.inputs:
            if name not in known:
                raise ValueError(f"a layer reads {name!r:.60} before it is computed")
        known.update(layer.outputs)
    return layers


def _parse_line(words: list[str]) -> NcnnLayer:
    kind, name, num_inputs, num_outputs = words[0], words[1], int(words[2]), int(words[3])
    names, values = words[4 : 4 + num_inputs + num_outputs], words[4 + num_inputs + num_outputs :]
    if min(num_inputs, num_outputs) < 0 or len(names) != num_inputs + num_outputs:
        raise ValueError(f"the line of layer {name!r:.60} is too short")
    layer = NcnnLayer(kind, name, names[:num_inputs], names[num_inputs:])
    for word in values:
        key, _, value = word.partition("=")
        if int(key) <= ARRAY:
            count, *numbers = value.split(",")
            if int(count) != len(numbers):
                raise ValueError(f"an array of layer {name!r:.60} has another length")
            layer.params[ARRAY - int(key)] = [_finite(number) for number in numbers]
        else:
            layer.params[int(key)] = _finite(value)
    return layer


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text!r:.20} is no finite number")
    return number


def write_layers(layers: list[NcnnLayer]) -> str:
    """Return the text of a .param file."""
    blobs = sum(len(layer.outputs) for layer in layers)
    lines = [MAGIC, f"{len(layers)} {blobs}", *map(_line, layers)]
    return "\n".join(lines) + "\n"


def _line(layer: NcnnLayer) -> str:
    counts = f"{len(layer.inputs)} {len(layer.outputs)}"
    head = f"{layer.kind:<24} {layer.name:<24} {counts}"
    return " ".join([head, *layer.inputs, *layer.outputs, *_params(layer)])


def _params(layer: NcnnLayer) -> Iterator[str]:
    for key, value in sorted(layer.params.items()):
        if isinstance(value, list):
            numbers = ",".join(map(_number, value))
            yield f"{ARRAY - key}={len(value)},{numbers}"
        else:
            yield f"{key}={_number(value)}"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.9e}"


def read_ncnn(data: Data) -> bytes | None:
    """Return the contract in the last line of a .param file, None if it has none."""
    mark = f"\n# {KEY}: ".encode()
    whole = bytes(data)
    start = whole.rfind(mark)
    return None if start < 0 else whole[start + len(mark) :].split(b"\n", 1)[0]


def embed_ncnn(content: bytes, contract: str) -> bytes:
    """Return a .param file with the contract in its last line."""
    kept = re.sub(rf"\n# {KEY}: .*\n".encode(), b"\n", content)
    return kept + f"# {KEY}: {contract}\n".encode()
