"""The program under construction: buffers, constants, and walks over tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from lenet_edge.errors import ModelFileError
from lenet_edge.export.native.lowering.integers import padding_of, stored_values
from lenet_edge.export.native.lowering.steps import (
    NO_BORDER,
    Alias,
    Array,
    Border,
    Buffer,
    KernelCall,
    Place,
    Program,
    Struct,
    Values,
)
from lenet_edge.export.native.passes import CONVOLUTIONS, stored_zero
from lenet_edge.export.native.tflite_graph import Operator, OperatorGraph, Tensor


class Builder:
    """The program under construction, and the buffer of each tensor so far."""

    def __init__(self, graph: OperatorGraph) -> None:
        self.graph = graph
        self.program = Program(list(graph.inputs), list(graph.outputs))
        self.storage: dict[int, Buffer] = {}
        self.borders = self._borders()

    def _borders(self) -> dict[int, Border]:
        """Return the border that the convolutions behind each tensor need."""
        borders: dict[int, Border] = {}
        for operator in self.graph.operators:
            if operator.kind in CONVOLUTIONS:
                key = id(operator.input())
                old, new = borders.get(key, NO_BORDER), padding_of(operator)
                borders[key] = (
                    max(old[0], new[0]), max(old[1], new[1]),
                    max(old[2], new[2]), max(old[3], new[3]),
                )  # fmt: skip
        return borders

    def new_buffer(self, tensor: Tensor, **facts: Any) -> Buffer:
        """Return a buffer for a tensor."""
        is_float = tensor.dtype == "float32"
        sizes = tensor.shape if len(tensor.shape) == 4 else (1, 1, 1, tensor.size)
        buffer = Buffer(is_float, *sizes, **facts)
        if not is_float:
            buffer.fill = stored_zero(tensor)
        return buffer

    def in_arena(self, tensor: Tensor) -> Buffer:
        """Return a new buffer of the arena, with its border."""
        buffer = self.new_buffer(tensor, border=self.borders.get(id(tensor), NO_BORDER))
        self.program.buffers.append(buffer)
        return buffer

    def source(self, operator: Operator, number: int = 0) -> Buffer:
        """Return the buffer of an input of an operator."""
        return self.storage_of(operator.input(number))

    def storage_of(self, tensor: Tensor) -> Buffer:
        """Return the buffer of a tensor; a constant gets one when it is first read."""
        buffer = self.storage.get(id(tensor))
        return self._constant(tensor) if buffer is None else buffer

    def _constant(self, tensor: Tensor) -> Buffer:
        """Return the buffer of a constant tensor, whose values become an array."""
        assert tensor.values is not None
        name = f"constant{len(self.program.arrays)}"
        values, kind = tensor.values, "float"
        if tensor.dtype != "float32":
            values, kind = stored_values(tensor), "int8_t"
        self.program.arrays.append(Array(kind, name, values, has_slack=True))
        buffer = self.new_buffer(tensor, place="constant", base=name)
        self.storage[id(tensor)] = buffer
        return buffer

    def target(self, operator: Operator) -> Buffer:
        """Return the buffer for the output of an operator: the caller's array, or a new one."""
        tensor = operator.output
        if (
            self.graph.outputs.count(tensor) == 1
            and tensor.dtype != "uint8"
            and not self.graph.consumers(tensor)
        ):
            number = self.graph.outputs.index(tensor)
            buffer = self.new_buffer(tensor, place="output", base=f"out{number}")
        else:
            buffer = self.in_arena(tensor)
            self._fill_border(buffer)
        self.storage[id(tensor)] = buffer
        return buffer

    def _fill_border(self, buffer: Buffer) -> None:
        """Add the step that fills the border of a buffer with its zero point."""
        _above, below, _left, right = buffer.border
        if not any(buffer.border):
            return
        item = buffer.item
        inside = buffer.cols * buffer.channels
        arguments = (
            Place(buffer, 0, buffer.batch),
            buffer.rows,
            buffer.line * item,
            inside * item,
            buffer.origin * item,
            (below * buffer.line + right * buffer.channels) * item,
            buffer.fill,
        )
        self.program.calls.append(KernelCall("fill", arguments, images=buffer.batches))

    def alias(self, source: Buffer, tensor: Tensor) -> Buffer:
        """Return a buffer with the bytes of another one, in the shape of a tensor."""
        alias = self.new_buffer(tensor, place=source.place, base=source.base)
        if source.place == "arena":
            return Alias(**vars(alias) | {"region": None}, of=source)
        return alias

    def strides(self, tensor: Tensor, buffer: Buffer) -> list[int]:
        """Return the elements from one index of each axis to the next one."""
        if len(tensor.shape) == 4 and any(buffer.border):
            return [buffer.batch, buffer.line, buffer.step, 1]
        strides = [1]
        for size in tensor.shape[:0:-1]:
            strides.insert(0, strides[0] * size)
        return strides[: len(tensor.shape)]

    def origin(self, buffer: Buffer) -> Place:
        """Return the place of the first pixel."""
        return Place(buffer, buffer.origin)

    def copy(
        self, tensor: Tensor, source: Buffer, target: Buffer, comment: str, flips: bool = False
    ) -> None:
        """Copy a tensor between two buffers; `flips` turns uint8 into int8, or back."""
        self._fill_border(target)
        strides = [self.strides(tensor, buffer) for buffer in (source, target)]
        self.walk(
            "flip" if flips else "copy",
            tensor.shape,
            strides,
            (self.origin(source), self.origin(target)),
            comment,
            bytes_each=1 if flips else target.item,
        )

    def walk(
        self,
        kernel: str,
        shape: Sequence[int],
        strides: Sequence[Sequence[int]],
        places: Sequence[Place],
        comment: str,
        before: Sequence[object] = (),
        bytes_each: int = 1,
    ) -> None:
        """Add a call of a kernel that walks over an input and an output."""
        sizes, (ins, outs) = merged_loops(shape, strides, comment)
        fields: dict[str, object] = {
            "sizes": sizes[:3],
            "in_steps": [step * bytes_each for step in ins[:3]],
            "out_steps": [step * bytes_each for step in outs[:3]],
            "count": sizes[3] * bytes_each,
        }
        name = self.struct("walk", fields)
        self.program.calls.append(KernelCall(kernel, (name, *before, *places), comment))

    def struct(
        self,
        kind: str,
        fields: dict[str, object],
        guarded: dict[str, tuple[str, str]] | None = None,
    ) -> str:
        """Return a pointer to a constant struct; equal ones are stored once."""
        made = Struct(kind, "", fields, guarded or {})
        for struct in self.program.structs:
            if dataclasses.replace(struct, name="") == made:
                return f"&{struct.name}"
        name = f"{kind}{sum(struct.kind == kind for struct in self.program.structs)}"
        self.program.structs.append(dataclasses.replace(made, name=name))
        return f"&{name}"

    def array(self, kind: str, name: str, values: Values, guard: str = "") -> str:
        """Add a constant array, and return its name."""
        self.program.arrays.append(Array(kind, name, values, guard, has_slack=True))
        return name

    def comment(self, operator: Operator, detail: str = "") -> str:
        """Return the comment of a call: operator, output and shape."""
        shapes = " x ".join(map(str, operator.output.shape[1:]))
        name = operator.output.name[:50]
        return f"{operator.kind} {operator.place}: {name}{detail}, {shapes}"


def merged_loops(
    shape: Sequence[int], strides: Sequence[Sequence[int]], comment: str, most: int = 4
) -> tuple[list[int], list[list[int]]]:
    """Return loops over a shape: axes that are neighbours in every tensor become one.

    Raises:
        ModelFileError: more than `most` loops remain.
    """
    axes = [
        (size, [stride[axis] for stride in strides]) for axis, size in enumerate(shape) if size != 1
    ]
    loops: list[tuple[int, list[int]]] = []
    for size, steps in axes:
        if loops and all(
            outer == inner * size for outer, inner in zip(loops[-1][1], steps, strict=True)
        ):
            loops[-1] = (loops[-1][0] * size, steps)
        else:
            loops.append((size, steps))
    if not loops or (most == 4 and set(loops[-1][1]) != {1}):
        loops.append((1, [1] * len(strides)))
    if len(loops) > most:
        raise ModelFileError(
            f"{comment} needs {len(loops)} loops, and the native format has {most}"
        )
    while len(loops) < most:
        loops.insert(0, (1, [0] * len(strides)))
    sizes = [size for size, _ in loops]
    return sizes, [[steps[n] for _, steps in loops] for n in range(len(strides))]
