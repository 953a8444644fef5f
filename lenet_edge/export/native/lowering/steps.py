"""The steps of a C file: calls of kernels, their parameters, and the buffers between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from lenet_edge.export.native.arena import Region
from lenet_edge.export.native.tflite_graph import Tensor

Border = tuple[int, int, int, int]  # rows above and below, columns left and right
NO_BORDER: Border = (0, 0, 0, 0)
Values = npt.NDArray[Any]


@dataclass(eq=False)
class Buffer:
    """Storage of one tensor, or of several that are the same bytes in other shapes.

    Attributes:
        place: "arena", "input", "output" or "constant".
        base: the C expression of the first byte, for other places than the arena.
        batches, rows, cols, channels: the sizes of a tensor of four axes; any other tensor has
            one row and one column.
        border: rows and columns around the image, which hold the zero point.
        fill: the byte or float in the border.
    """

    is_float: bool
    batches: int
    rows: int
    cols: int
    channels: int
    place: str = "arena"
    base: str = ""
    border: Border = NO_BORDER
    fill: int = 0
    region: Region | None = None

    @property
    def step(self) -> int:
        """Elements from a pixel to the next one."""
        return self.channels

    @property
    def line(self) -> int:
        """Elements from a row to the next one."""
        return (self.border[2] + self.cols + self.border[3]) * self.channels

    @property
    def batch(self) -> int:
        """Elements from an image of a batch to the next one."""
        return (self.border[0] + self.rows + self.border[1]) * self.line

    @property
    def origin(self) -> int:
        """Elements before the first pixel."""
        return self.border[0] * self.line + self.border[2] * self.channels

    @property
    def item(self) -> int:
        """Bytes of an element."""
        return 4 if self.is_float else 1

    @property
    def size(self) -> int:
        """Bytes."""
        return self.batches * self.batch * self.item


@dataclass(eq=False)
class Alias(Buffer):
    """A buffer that is the same bytes as another one, in another shape."""

    of: Buffer | None = None


def root(buffer: Buffer) -> Buffer:
    """Return the buffer whose bytes a buffer is."""
    while isinstance(buffer, Alias) and buffer.of is not None:
        buffer = buffer.of
    return buffer


@dataclass(frozen=True)
class Place:
    """A place in a buffer: an argument of a call."""

    buffer: Buffer
    elements: int = 0
    per_image: int = 0  # elements from an image of the batch to the next one


@dataclass(frozen=True)
class Array:
    """A constant array of the C file."""

    kind: str
    name: str
    values: Values
    guard: str = ""
    has_slack: bool = False


@dataclass(frozen=True)
class Struct:
    """A constant struct of the C file; the fields of a guard exist under a condition only."""

    kind: str
    name: str
    fields: dict[str, object]
    guarded: dict[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class KernelCall:
    """A call of a kernel, repeated for `images` images."""

    kernel: str
    arguments: tuple[object, ...]
    comment: str = ""
    images: int = 1


@dataclass
class Program:
    """Everything that the text of a C file is made from."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    calls: list[KernelCall] = field(default_factory=list)
    arrays: list[Array] = field(default_factory=list)
    structs: list[Struct] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)

    def used_in(self, call: KernelCall) -> list[Buffer]:
        """Return the buffers of the arena that a call reads or writes."""
        buffers = [root(each.buffer) for each in call.arguments if isinstance(each, Place)]
        return [buffer for buffer in buffers if buffer.place == "arena"]
