"""The steps of a C file: calls of kernels, their parameters, and the buffers between them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.errors import ModelFileError
from lenet_edge.export.native import fixed_point
from lenet_edge.export.native.arena import Region
from lenet_edge.export.native.coverage import (
    RELU,
    RELU6,
    RELU_N1_TO_1,
    RESHAPES,
    concatenation_axis,
    constant_numbers,
    dilations_of,
    geometry,
    mean_axes,
    strides_of,
    window_of,
)
from lenet_edge.export.native.passes import CONVOLUTIONS, pad_value, stored_zero
from lenet_edge.export.native.text import c_float
from lenet_edge.export.native.tflite_graph import Operator, OperatorGraph, Tensor

_GROUP = 4  # input bytes that belong together, and the multiple to which outputs are padded
Border = tuple[int, int, int, int]  # rows above and below, columns left and right
_NO_BORDER: Border = (0, 0, 0, 0)
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
    border: Border = _NO_BORDER
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


def lower(graph: OperatorGraph) -> Program:
    """Return the program of a graph that has been checked and optimized.

    Raises:
        ModelFileError: an operator needs more axes than the kernels have.
    """
    return _Lowering(graph).run()


class _Lowering:
    def __init__(self, graph: OperatorGraph) -> None:
        self.graph = graph
        self.program = Program(list(graph.inputs), list(graph.outputs))
        self.storage: dict[int, Buffer] = {}
        self.borders = self._borders()

    # ---- buffers -------------------------------------------------------------------------------

    def _borders(self) -> dict[int, Border]:
        """Return the border that the convolutions behind each tensor need."""
        borders: dict[int, Border] = {}
        for operator in self.graph.operators:
            if operator.kind in CONVOLUTIONS:
                key = id(operator.input())
                old, new = borders.get(key, _NO_BORDER), padding_of(operator)
                borders[key] = (
                    max(old[0], new[0]), max(old[1], new[1]),
                    max(old[2], new[2]), max(old[3], new[3]),
                )  # fmt: skip
        return borders

    def _new_buffer(self, tensor: Tensor, **facts: Any) -> Buffer:
        is_float = tensor.dtype == "float32"
        sizes = tensor.shape if len(tensor.shape) == 4 else (1, 1, 1, tensor.size)
        buffer = Buffer(is_float, *sizes, **facts)
        if not is_float:
            buffer.fill = stored_zero(tensor)
        return buffer

    def _in_arena(self, tensor: Tensor) -> Buffer:
        """Return a new buffer of the arena, with its border."""
        buffer = self._new_buffer(tensor, border=self.borders.get(id(tensor), _NO_BORDER))
        self.program.buffers.append(buffer)
        return buffer

    def run(self) -> Program:
        for number, tensor in enumerate(self.graph.inputs):
            self._bring_in(tensor, number)
        for operator in self.graph.operators:
            self._lower(operator)
        for number, tensor in enumerate(self.graph.outputs):
            self._bring_out(tensor, number)
        self._set_lives()
        return self.program

    def _bring_in(self, tensor: Tensor, number: int) -> None:
        """Use the caller's array, or copy it where a kernel may read beyond its end."""
        outside = self._new_buffer(tensor, place="input", base=f"in{number}")
        consumers = self.graph.consumers(tensor)
        reads_beyond = any(
            operator.kind in (*CONVOLUTIONS, "FULLY_CONNECTED", *RESHAPES) for operator in consumers
        )
        is_float = tensor.dtype == "float32"
        has_border = id(tensor) in self.borders and any(self.borders[id(tensor)])
        if tensor.dtype != "uint8" and not has_border and (is_float or not reads_beyond):
            self.storage[id(tensor)] = outside
            return
        if not consumers and tensor not in self.graph.outputs:
            return
        inside = self._in_arena(tensor)
        self.storage[id(tensor)] = inside
        self._copy(tensor, outside, inside, f"the input {tensor.name}", tensor.dtype == "uint8")

    def _bring_out(self, tensor: Tensor, number: int) -> None:
        buffer = self.storage.get(id(tensor)) or self._constant(tensor)
        if buffer.place == "output" and buffer.base == f"out{number}":
            return
        outside = self._new_buffer(tensor, place="output", base=f"out{number}")
        self._copy(tensor, buffer, outside, f"the output {tensor.name}", tensor.dtype == "uint8")

    def _target(self, operator: Operator) -> Buffer:
        """Return the buffer for the output of an operator: the caller's array, or a new one."""
        tensor = operator.output
        if (
            self.graph.outputs.count(tensor) == 1
            and tensor.dtype != "uint8"
            and not self.graph.consumers(tensor)
        ):
            number = self.graph.outputs.index(tensor)
            buffer = self._new_buffer(tensor, place="output", base=f"out{number}")
        else:
            buffer = self._in_arena(tensor)
            self._fill_border(buffer)
        self.storage[id(tensor)] = buffer
        return buffer

    def _source(self, operator: Operator, number: int = 0) -> Buffer:
        tensor = operator.input(number)
        found = self.storage.get(id(tensor))
        return found if found is not None else self._constant(tensor)

    def _constant(self, tensor: Tensor) -> Buffer:
        """Return the buffer of a constant tensor, whose values become an array."""
        assert tensor.values is not None
        name = f"constant{len(self.program.arrays)}"
        values, kind = tensor.values, "float"
        if tensor.dtype != "float32":
            values, kind = _stored(tensor), "int8_t"
        self.program.arrays.append(Array(kind, name, values, has_slack=True))
        buffer = self._new_buffer(tensor, place="constant", base=name)
        self.storage[id(tensor)] = buffer
        return buffer

    def _fill_border(self, buffer: Buffer) -> None:
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

    def _set_lives(self) -> None:
        for step, call in enumerate(self.program.calls):
            for buffer in self.program.used_in(call):
                if buffer.region is None:
                    buffer.region = Region(buffer.size, step, step)
                buffer.region.last = step
        self.program.buffers = [each for each in self.program.buffers if each.region is not None]

    # ---- walks ---------------------------------------------------------------------------------

    def _strides(self, tensor: Tensor, buffer: Buffer) -> list[int]:
        """Return the elements from one index of each axis to the next one."""
        if len(tensor.shape) == 4 and any(buffer.border):
            return [buffer.batch, buffer.line, buffer.step, 1]
        strides = [1]
        for size in tensor.shape[:0:-1]:
            strides.insert(0, strides[0] * size)
        return strides[: len(tensor.shape)]

    def _origin(self, buffer: Buffer) -> Place:
        return Place(buffer, buffer.origin)

    def _copy(
        self, tensor: Tensor, source: Buffer, target: Buffer, comment: str, flips: bool = False
    ) -> None:
        """Copy a tensor between two buffers; `flips` turns uint8 into int8, or back."""
        self._fill_border(target)
        strides = [self._strides(tensor, buffer) for buffer in (source, target)]
        self._walk(
            "flip" if flips else "copy",
            tensor.shape,
            strides,
            (self._origin(source), self._origin(target)),
            comment,
            bytes_each=1 if flips else target.item,
        )

    def _walk(
        self,
        kernel: str,
        shape: Sequence[int],
        strides: Sequence[Sequence[int]],
        places: Sequence[Place],
        comment: str,
        before: Sequence[object] = (),
        bytes_each: int = 1,
    ) -> None:
        sizes, (ins, outs) = _merged(shape, strides, comment)
        fields: dict[str, object] = {
            "sizes": sizes[:3],
            "in_steps": [step * bytes_each for step in ins[:3]],
            "out_steps": [step * bytes_each for step in outs[:3]],
            "count": sizes[3] * bytes_each,
        }
        name = self._struct("walk", fields)
        self.program.calls.append(KernelCall(kernel, (name, *before, *places), comment))

    def _struct(
        self,
        kind: str,
        fields: dict[str, object],
        guarded: dict[str, tuple[str, str]] | None = None,
    ) -> str:
        made = Struct(kind, "", fields, guarded or {})
        for struct in self.program.structs:
            if dataclasses.replace(struct, name="") == made:
                return f"&{struct.name}"
        name = f"{kind}{sum(struct.kind == kind for struct in self.program.structs)}"
        self.program.structs.append(dataclasses.replace(made, name=name))
        return f"&{name}"

    def _array(self, kind: str, name: str, values: Values, guard: str = "") -> str:
        self.program.arrays.append(Array(kind, name, values, guard, has_slack=True))
        return name

    # ---- operators -----------------------------------------------------------------------------

    def _lower(self, operator: Operator) -> None:
        handlers: dict[str, Callable[[Operator], None]] = {
            "CONV_2D": self._convolution,
            "DEPTHWISE_CONV_2D": self._depthwise,
            "FULLY_CONNECTED": self._dense,
            "MAX_POOL_2D": self._pool,
            "AVERAGE_POOL_2D": self._pool,
            "MEAN": self._mean,
            "ADD": self._binary,
            "SUB": self._binary,
            "MUL": self._binary,
            "CONCATENATION": self._concatenation,
            "PAD": self._pad,
            "PADV2": self._pad,
            "SOFTMAX": self._softmax,
            "QUANTIZE": self._quantize,
            "DEQUANTIZE": self._quantize,
            "RESIZE_NEAREST_NEIGHBOR": self._resize,
            **dict.fromkeys(RESHAPES, self._reshape),
        }
        handlers.get(operator.kind, self._unary)(operator)

    def _comment(self, operator: Operator, detail: str = "") -> str:
        shapes = " x ".join(map(str, operator.output.shape[1:]))
        name = operator.output.name[:50]
        return f"{operator.kind} {operator.place}: {name}{detail}, {shapes}"

    def _reshape(self, operator: Operator) -> None:
        source, tensor = self._source(operator), operator.output
        border = self.borders.get(id(tensor), _NO_BORDER)
        is_output = tensor in self.graph.outputs
        if any(source.border):
            target = self._in_arena(operator.input())
            target.border = _NO_BORDER
            self._copy(operator.input(), source, target, self._comment(operator))
            source = target
        if any(border) or (is_output and source.place == "input"):
            target = self._target(operator)
            strides = self._strides(tensor, self._new_buffer(tensor)), self._strides(tensor, target)
            self._walk("copy", tensor.shape, strides,
                       (Place(source, source.origin), self._origin(target)),
                       self._comment(operator), bytes_each=target.item)  # fmt: skip
            return
        self.storage[id(tensor)] = self._alias(source, tensor)

    def _alias(self, source: Buffer, tensor: Tensor) -> Buffer:
        """Return a buffer with the bytes of another one, in the shape of a tensor."""
        alias = self._new_buffer(tensor, place=source.place, base=source.base)
        if source.place == "arena":
            return _Alias(**vars(alias) | {"region": None}, of=source)
        return alias

    def _window(self, operator: Operator, source: Buffer) -> tuple[Place, dict[str, int]]:
        """Return where a convolution begins to read, and its steps through the input."""
        above, _, left, _ = padding_of(operator)
        begin = source.origin - above * source.line - left * source.step
        stride, dilation = strides_of(operator), dilations_of(operator)
        steps = {
            "row_step": stride[0] * source.line,
            "col_step": stride[1] * source.step,
            "row_reach": dilation[0] * source.line,
            "col_reach": dilation[1] * source.step,
        }
        return Place(source, begin, source.batch), steps

    def _convolution(self, operator: Operator) -> None:
        source, target = self._source(operator), self._target(operator)
        begin, steps = self._window(operator, source)
        weights = operator.input(1)
        filters, rows, cols, channels = weights.shape
        window, strides = (1, 1), (1, 1)
        if operator.pool is not None:
            window, strides = window_of(operator.pool), strides_of(operator.pool)
        is_split = dilations_of(operator)[1] != 1 and cols != 1
        fields: dict[str, object] = {
            "rows": target.rows, "cols": target.cols,
            "filters": filters,
            "run_rows": rows, "run_cols": cols if is_split else 1,
            "run_row_step": steps["row_reach"], "run_col_step": steps["col_reach"] * is_split,
            "run_bytes": channels if is_split else cols * channels,
            "row_step": steps["row_step"], "col_step": steps["col_step"],
            "pool_rows": window[0], "pool_cols": window[1],
            "pool_row_step": strides[0] * steps["row_step"],
            "pool_col_step": strides[1] * steps["col_step"],
            "out_line": target.line, "out_step": target.step,
        }  # fmt: skip
        runs = (rows * cols, channels) if is_split else (rows, cols * channels)
        detail = f", {rows} x {cols} weights"
        detail += f", pool {window[0]} x {window[1]}" if operator.pool else ""
        if source.is_float:
            fields["run_bytes"] = runs[1]
            self._float_weights(
                operator, "convolution", fields, detail, begin, target,
                lambda values: values.reshape(filters, *runs).transpose(1, 2, 0),
            )  # fmt: skip
            return
        values = centred_weights(weights).reshape(filters, *runs)
        fields["run_groups"] = -(-runs[1] // _GROUP)
        self._weighted(operator, "convolution", "convolve", fields, values, begin, target, detail)

    def _depthwise(self, operator: Operator) -> None:
        source, target = self._source(operator), self._target(operator)
        begin, steps = self._window(operator, source)
        weights = operator.input(1)
        _, rows, cols, channels = weights.shape
        fields: dict[str, object] = {
            "rows": target.rows, "cols": target.cols, "channels": channels,
            "multiplier": channels // source.channels,
            "kernel_rows": rows, "kernel_cols": cols,
            "kernel_row_step": steps["row_reach"], "kernel_col_step": steps["col_reach"],
            "row_step": steps["row_step"], "col_step": steps["col_step"],
            "out_line": target.line, "out_step": target.step,
        }  # fmt: skip
        detail = f", {rows} x {cols} weights"
        if source.is_float:
            self._float_weights(operator, "depthwise", fields, detail, begin, target,
                                lambda values: values.reshape(rows * cols, channels))  # fmt: skip
            return
        values = centred_weights(weights).reshape(rows * cols, channels)
        self._weighted(operator, "depthwise", "depthwise", fields, values, begin, target, detail)

    def _dense(self, operator: Operator) -> None:
        source, target = self._source(operator), self._target(operator)
        if any(source.border):
            flat = self._in_arena(operator.input())
            flat.border = _NO_BORDER
            self._copy(operator.input(), source, flat, self._comment(operator))
            source = flat
        weights = operator.input(1)
        outputs, inputs = weights.shape
        images = operator.input().size // inputs
        begin, end = Place(source, 0, inputs), Place(target, 0, outputs)
        if source.is_float:
            self._float_weights(operator, "dense", {"inputs": inputs, "outputs": outputs}, "",
                                begin, target, lambda values: values.T, end, images)  # fmt: skip
            return
        fields: dict[str, object] = {
            "outputs": outputs,
            "groups": -(-inputs // _GROUP),
            "in_zero": stored_zero(operator.input()),
        }
        values = centred_weights(weights).reshape(outputs, 1, inputs)
        self._weighted(operator, "dense", "dense", fields, values, begin, target, "", end, images)

    def _weighted(
        self,
        operator: Operator,
        kind: str,
        kernel: str,
        fields: dict[str, object],
        values: Values,
        begin: Place,
        target: Buffer,
        detail: str,
        end: Place | None = None,
        images: int | None = None,
    ) -> None:
        """Add the arrays, the struct and the call of an int8 operator with weights.

        `values` are the weights minus their zero point: [output][run][byte] or [position][channel].
        """
        source, output = operator.input(), operator.output
        name = f"layer{operator.place}"
        if kind == "depthwise":
            sums, outputs = values.sum(axis=0), values.shape[1]
            packed = np.zeros((values.shape[0], _rounded(outputs)), np.int64)
            packed[:, :outputs] = values
        else:
            outputs, runs, length = values.shape
            sums = values.sum(axis=(1, 2))
            full = np.zeros((_rounded(outputs), runs, _rounded(length)), np.int64)
            full[:outputs, :, :length] = values
            grouped = full.reshape(len(full), runs, -1, _GROUP)
            packed = grouped.transpose(1, 2, 0, 3)
        low, high = output_limits(operator)
        bias = operator.inputs[2] if len(operator.inputs) > 2 else None
        file_bias = np.zeros(outputs, np.int64)
        if bias is not None and bias.values is not None:
            file_bias = bias.values.astype(np.int64).ravel()
        zero = stored_zero(source)
        pairs = _multipliers(operator, low, high, values, file_bias)
        multipliers, shifts = (
            _padded(np.array(side, np.int64), np.dtype(kind))
            for side, kind in zip(zip(*pairs, strict=True), ("int32", "int8"), strict=True)
        )
        # NEON adds two products in 16 bits, which overflow only if both weights are -128.
        lowest = (values == -128).sum(axis=0 if kind == "depthwise" else (1, 2))
        is_wide = bool(
            values.min(initial=0) < -128 or values.max(initial=0) > 127 or lowest.max(initial=0) > 1
        )
        fields["padded"] = _rounded(outputs)
        in_low = self._smallest(source)
        fields["in_low"] = in_low
        fields |= {"zero": stored_zero(output), "low": low, "high": high}
        if is_wide:
            kernel = f"{kernel}_wide"
            fields["wide"] = self._array("int16_t", f"{name}_weights", packed.astype(np.int16))
        else:
            fields["weights"] = self._array("int8_t", f"{name}_weights", packed.astype(np.int8))
        folded = _wrapped(file_bias - zero * sums)
        fields["bias"] = self._array("int32_t", f"{name}_bias", _padded(folded, np.dtype("int32")))
        fields["multipliers"] = self._array("int32_t", f"{name}_multipliers", multipliers)
        fields["shifts"] = self._array("int8_t", f"{name}_shifts", shifts)
        guarded = {}
        if not is_wide:
            unsigned = _padded(_wrapped(file_bias - (zero - in_low) * sums), np.dtype("int32"))
            self._array("int32_t", f"{name}_unsigned_bias", unsigned, "CHOOSE_X86")
            guarded["unsigned_bias"] = ("CHOOSE_X86", f"{name}_unsigned_bias")
            if kind == "dense":
                plain = _padded(_wrapped(file_bias), np.dtype("int32"))
                self._array("int32_t", f"{name}_file_bias", plain, "CORTEX_M")
                guarded["file_bias"] = ("CORTEX_M", f"{name}_file_bias")
            by_output = values if kind == "depthwise" else values.transpose(1, 2, 0)
            farthest = max(zero - in_low, 127 - zero)
            most = np.abs(by_output).reshape(-1, outputs).sum(axis=0) * farthest + np.abs(file_bias)
            lifts = _lifts(shifts, most, kind == "dense" or low >= stored_zero(output))
            if lifts is not None:
                self._array("int32_t", f"{name}_lifts", lifts, "__wasm_simd128__")
                guarded["lifts"] = ("__wasm_simd128__", f"{name}_lifts")
                guarded["shift"] = ("__wasm_simd128__", str(-int(shifts[:outputs].min())))
        struct = self._struct(kind, fields, guarded)
        end = end or Place(target, target.origin, target.batch)
        images = target.batches if images is None else images
        comment = self._comment(operator, detail)
        self.program.calls.append(KernelCall(kernel, (struct, begin, end), comment, images))

    def _smallest(self, tensor: Tensor) -> int:
        """Return the smallest integer that a tensor can hold."""
        producer = self.graph.producer(tensor)
        while producer is not None and producer.kind in RESHAPES:
            tensor = producer.input()
            producer = self.graph.producer(tensor)
        if producer is None or producer.kind not in (*CONVOLUTIONS, "FULLY_CONNECTED"):
            return -128
        return output_limits(producer)[0]

    def _pool(self, operator: Operator) -> None:
        source, target = self._source(operator), self._target(operator)
        (_, padding), window, stride = geometry(operator), window_of(operator), strides_of(operator)
        fields: dict[str, object] = {
            "rows": target.rows, "cols": target.cols, "channels": target.channels,
            "in_rows": source.rows, "in_cols": source.cols,
            "window_rows": window[0], "window_cols": window[1],
            "stride_rows": stride[0], "stride_cols": stride[1],
            "above": padding[0], "left": padding[2],
            "in_line": source.line, "in_step": source.step,
            "out_line": target.line, "out_step": target.step,
        }  # fmt: skip
        kernel = "max_pool" if operator.kind == "MAX_POOL_2D" else "average_pool"
        if source.is_float:
            fields |= _float_limits(operator)
            struct = self._struct("pool_float", fields)
            kernel += "_float"
        else:
            low, high = output_limits(operator)
            offset = 128 if operator.input().dtype == "uint8" else 0
            fields |= {"low": low, "high": high, "offset": offset}
            struct = self._struct("pool", fields)
        places = (Place(source, source.origin, source.batch),
                  Place(target, target.origin, target.batch))  # fmt: skip
        detail = f", windows of {window[0]} x {window[1]}"
        self.program.calls.append(
            KernelCall(kernel, (struct, *places), self._comment(operator, detail), target.batches)
        )

    def _mean(self, operator: Operator) -> None:
        source, target = self._source(operator), self._target(operator)
        tensor, output = operator.input(), operator.output
        axes = mean_axes(operator)
        ins = self._strides(tensor, source)
        outs_all = self._strides(output, target)
        if len(output.shape) != len(tensor.shape):
            kept = iter(outs_all)
            outs = [0 if axis in axes else next(kept) for axis in range(len(tensor.shape))]
        else:
            outs = outs_all
        stay = [axis for axis in range(len(tensor.shape)) if axis not in axes]
        shape = tensor.shape
        comment = self._comment(operator)
        sizes, (in_steps, out_steps) = _merged(
            [shape[a] for a in stay], [[ins[a] for a in stay], [outs[a] for a in stay]], comment, 3
        )
        over, (over_steps,) = _merged(
            [shape[a] for a in axes], [[ins[a] for a in axes]], comment, 3
        )
        fields: dict[str, object] = {
            "sizes": sizes, "in_steps": in_steps, "out_steps": out_steps,
            "over": over, "over_steps": over_steps,
        }  # fmt: skip
        places = self._origin(source), self._origin(target)
        count = math.prod(shape[axis] for axis in axes)
        if source.is_float:
            struct = self._struct("mean_float", {**fields, "count": float(count)})
            self.program.calls.append(KernelCall("mean_float", (struct, *places), comment))
            return
        multiplier, exponent = fixed_point.quantize_multiplier(tensor.scale / output.scale)
        shift = min(count.bit_length() - 1, 32, 31 + exponent)
        fields |= {
            "bias": int(_wrapped(np.array(-stored_zero(tensor) * count))),
            "multiplier": (multiplier << shift) // count, "shift": exponent - shift,
            "zero": stored_zero(output), "low": -128, "high": 127,
        }  # fmt: skip
        struct = self._struct("mean", fields)
        self.program.calls.append(KernelCall("mean", (struct, *places), comment))

    def _binary(self, operator: Operator) -> None:
        sources = [self._source(operator, number) for number in (0, 1)]
        target, output = self._target(operator), operator.output
        comment = self._comment(operator)
        strides = []
        for number, source in enumerate(sources):
            tensor = operator.input(number)
            missing = len(output.shape) - len(tensor.shape)
            own = self._strides(tensor, source)
            strides.append(
                [
                    0
                    if axis < missing or tensor.shape[axis - missing] == 1
                    else own[axis - missing]
                    for axis in range(len(output.shape))
                ]
            )
        strides.append(self._strides(output, target))
        sizes, (a_steps, b_steps, outs) = _merged(output.shape, strides, comment)
        fields: dict[str, object] = {
            "sizes": sizes[:3], "a_steps": a_steps[:3], "b_steps": b_steps[:3],
            "out_steps": outs[:3], "count": sizes[3], "a_step": a_steps[3], "b_step": b_steps[3],
        }  # fmt: skip
        places = [self._origin(buffer) for buffer in (*sources, target)]
        kernel = "multiply" if operator.kind == "MUL" else "add"
        before: list[object] = (
            [] if operator.kind == "MUL" else [1 if operator.kind == "ADD" else -1]
        )
        if target.is_float:
            fields |= _float_limits(operator)
            struct = self._struct("elements_float", fields)
            kernel += "_float"
        else:
            low, high = output_limits(operator)
            fields |= {"low": low, "high": high, "zero": stored_zero(output)}
            fields |= _binary_scales(operator)
            struct = self._struct("elements", fields)
        self.program.calls.append(KernelCall(kernel, (struct, *before, *places), comment))

    def _concatenation(self, operator: Operator) -> None:
        target, output = self._target(operator), operator.output
        axis = concatenation_axis(operator)
        outs = self._strides(output, target)
        begin = target.origin
        for number, tensor in enumerate(operator.inputs):
            assert tensor is not None
            source = self._source(operator, number)
            strides = self._strides(tensor, source), outs
            places = self._origin(source), Place(target, begin)
            comment = self._comment(operator) if number == 0 else ""
            self._walk("copy", tensor.shape, strides, places, comment, bytes_each=target.item)
            begin += tensor.shape[axis] * outs[axis]

    def _pad(self, operator: Operator) -> None:
        source, target = self._source(operator), self._target(operator)
        tensor, output = operator.input(), operator.output
        amounts = constant_numbers(operator.input(1)) or []
        outs = self._strides(output, target)
        comment = self._comment(operator)
        value = pad_value(operator)
        # The whole tensor gets the value first; then the input goes into its middle.
        if target.is_float:
            fill = self._array(
                "float", f"layer{operator.place}_value", np.array([value], np.float32)
            )
        else:
            fill = self._array("int8_t", f"layer{operator.place}_value", np.array([value], np.int8))
        constant = Buffer(target.is_float, 1, 1, 1, 1, place="constant", base=fill)
        kernel = "spread_float" if target.is_float else "spread"
        self._walk(kernel, output.shape, ([0] * len(outs), outs),
                   (Place(constant), self._origin(target)), comment)  # fmt: skip
        begin = target.origin + sum(amounts[2 * n] * stride for n, stride in enumerate(outs))
        strides = self._strides(tensor, source), outs
        places = self._origin(source), Place(target, begin)
        self._walk("copy", tensor.shape, strides, places, "", bytes_each=target.item)

    def _softmax(self, operator: Operator) -> None:
        source, target = self._source(operator), self._target(operator)
        tensor = operator.input()
        count = tensor.shape[-1] if tensor.shape else 1
        comment, beta = self._comment(operator), float(operator.options.beta)
        ins, outs = self._strides(tensor, source), self._strides(tensor, target)
        sizes, (in_steps, out_steps) = _merged(tensor.shape[:-1], [ins[:-1], outs[:-1]], comment, 3)
        fields: dict[str, object] = {
            "sizes": sizes, "in_steps": in_steps, "out_steps": out_steps, "count": count
        }  # fmt: skip
        walk = self._struct("walk", fields)
        places = self._origin(source), self._origin(target)
        if source.is_float:
            arguments = (walk, c_float(beta), *places)
            self.program.calls.append(KernelCall("softmax_float", arguments, comment))
            return
        table = self._array("int32_t", f"layer{operator.place}_exponentials",
                            fixed_point.exponentials(beta, tensor.scale))  # fmt: skip
        self.program.calls.append(KernelCall("softmax", (walk, table, *places), comment))

    def _unary(self, operator: Operator) -> None:
        source, target = self._source(operator), self._target(operator)
        tensor, output = operator.input(), operator.output
        strides = self._strides(tensor, source), self._strides(output, target)
        places = self._origin(source), self._origin(target)
        comment = self._comment(operator)
        if source.is_float:
            alpha = float(getattr(operator.options, "alpha", 0) or 0)
            kernel = f"{operator.kind.lower()}_float"
            before = [c_float(alpha)] if operator.kind == "LEAKY_RELU" else []
            self._walk(kernel, tensor.shape, strides, places, comment, before)
            return
        table = self._array("int8_t", f"layer{operator.place}_table", _table(operator))
        self._walk("look_up", tensor.shape, strides, places, comment, [table])

    def _quantize(self, operator: Operator) -> None:
        tensor, output = operator.input(), operator.output
        if tensor.dtype != "float32" and output.dtype != "float32":
            self._unary(operator)
            return
        source, target = self._source(operator), self._target(operator)
        strides = self._strides(tensor, source), self._strides(output, target)
        places = self._origin(source), self._origin(target)
        kernel = "quantize" if output.dtype != "float32" else "dequantize"
        quantized = output if kernel == "quantize" else tensor
        before = [c_float(quantized.scale), stored_zero(quantized)]
        self._walk(kernel, tensor.shape, strides, places, self._comment(operator), before)

    def _resize(self, operator: Operator) -> None:
        source, target = self._source(operator), self._target(operator)
        options, name = operator.options, f"layer{operator.place}"
        indices = [
            _nearest(before, after, bool(options.alignCorners), bool(options.halfPixelCenters))
            for before, after in ((source.rows, target.rows), (source.cols, target.cols))
        ]
        item = target.item
        fields: dict[str, object] = {
            "rows": target.rows, "cols": target.cols, "pixel": target.channels * item,
            "in_line": source.line * item, "out_line": target.line * item,
            "out_step": target.step * item,
            "in_rows": self._array("int16_t", f"{name}_rows", indices[0]),
            "in_cols": self._array("int16_t", f"{name}_cols", indices[1]),
        }  # fmt: skip
        struct = self._struct("resize", fields)
        places = (Place(source, source.origin, source.batch),
                  Place(target, target.origin, target.batch))  # fmt: skip
        self.program.calls.append(
            KernelCall("resize", (struct, *places), self._comment(operator), target.batches)
        )

    def _float_weights(
        self,
        operator: Operator,
        kind: str,
        fields: dict[str, object],
        detail: str,
        begin: Place,
        target: Buffer,
        arrange: Callable[[Values], Values],
        end: Place | None = None,
        images: int | None = None,
    ) -> None:
        """Add the arrays, the struct and the call of a float operator with weights."""
        weights = operator.input(1)
        assert weights.values is not None
        packed = np.ascontiguousarray(arrange(weights.values.astype(np.float32)))
        outputs = packed.shape[-1]
        bias = operator.inputs[2] if len(operator.inputs) > 2 else None
        offsets = np.zeros(outputs, np.float32)
        if bias is not None and bias.values is not None:
            offsets = bias.values.astype(np.float32).ravel()
        name = f"layer{operator.place}"
        fields["weights"] = self._array("float", f"{name}_weights", packed)
        fields["bias"] = self._array("float", f"{name}_bias", offsets)
        fields |= _float_limits(operator)
        struct = self._struct(f"{kind}_float", fields)
        end = end or Place(target, target.origin, target.batch)
        images = target.batches if images is None else images
        kernel = {"convolution": "convolve_float"}.get(kind, f"{kind}_float")
        comment = self._comment(operator, detail)
        self.program.calls.append(KernelCall(kernel, (struct, begin, end), comment, images))


@dataclass(eq=False)
class _Alias(Buffer):
    """A buffer that is the same bytes as another one, in another shape."""

    of: Buffer | None = None


def root(buffer: Buffer) -> Buffer:
    """Return the buffer whose bytes a buffer is."""
    while isinstance(buffer, _Alias) and buffer.of is not None:
        buffer = buffer.of
    return buffer


def padding_of(operator: Operator) -> Border:
    """Return the padding of a convolution or a pool: above, below, left, right."""
    return operator.padding or geometry(operator)[1]


def _rounded(count: int) -> int:
    return -(-count // _GROUP) * _GROUP


def _padded(values: Values, dtype: np.dtype[Any]) -> Values:
    padded = np.zeros(_rounded(len(values)), dtype)
    padded[: len(values)] = values
    return padded


def _lifts(shifts: Values, most: Values, keeps_order: bool) -> Values | None:
    """Return factors for the sums of each output, after which all need the same shift.

    WebAssembly shifts all lanes of a vector alike.

    Args:
        shifts: the left shift of each output, with padding.
        most: the largest absolute sum of each output.
        keeps_order: whether negative results round as positive ones, or become the zero point.

    Returns:
        Powers of two; None if a sum would not fit 32 bits, or a shift is too small.
    """
    used = -shifts[: len(most)].astype(np.int64)
    if not keeps_order or used.min() < 2 or used.max() > 30:
        return None
    lifts = np.ones(len(shifts), np.int64)
    lifts[: len(most)] = 1 << (used.max() - used)
    if (lifts[: len(most)] * most >= 2**31).any():
        return None
    return lifts.astype(np.int32)


def _wrapped(values: Values) -> Values:
    """Return integers as 32 bits hold them."""
    return (values + 2**31) % 2**32 - 2**31


def _stored(tensor: Tensor) -> Values:
    """Return the values of a constant as the C file stores them."""
    assert tensor.values is not None
    offset = 128 if tensor.dtype == "uint8" else 0
    return (tensor.values.astype(np.int16) - offset).astype(np.int8)


def centred_weights(weights: Tensor) -> Values:
    """Return weights minus their zero point."""
    assert weights.values is not None
    return weights.values.astype(np.int64) - (weights.zero if weights.dtype == "uint8" else 0)


def _merged(
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
    if not loops or (most == 4 and loops[-1][1][-1] != 1):
        loops.append((1, [1] * len(strides)))
    if len(loops) > most:
        raise ModelFileError(
            f"{comment} needs {len(loops)} loops, and the native format has {most}"
        )
    while len(loops) < most:
        loops.insert(0, (1, [0] * len(strides)))
    sizes = [size for size, _ in loops]
    return sizes, [[steps[n] for _, steps in loops] for n in range(len(strides))]


def output_limits(operator: Operator) -> tuple[int, int]:
    """Return the smallest and the largest integer of an output, with the pool behind it."""
    low, high = _activation_limits(operator.output, operator.activation)
    if operator.pool is not None:
        other_low, other_high = _activation_limits(operator.output, operator.pool.activation)
        low, high = max(low, other_low), min(high, other_high)
    return low, high


def _activation_limits(output: Tensor, activation: int) -> tuple[int, int]:
    real = {
        RELU: (0.0, None), RELU6: (0.0, 6.0), RELU_N1_TO_1: (-1.0, 1.0)
    }.get(activation, (None, None))  # fmt: skip
    low, high = (
        None if limit is None else stored_zero(output) + _rounded_division(limit, output.scale)
        for limit in real
    )
    return max(-128, -128 if low is None else low), min(127, 127 if high is None else high)


def _rounded_division(value: float, scale: float) -> int:
    quotient = float(np.float32(value) / np.float32(scale))
    return math.floor(abs(quotient) + 0.5) * (1 if quotient >= 0 else -1)


def _float_limits(operator: Operator) -> dict[str, object]:
    pairs = [_FLOAT_LIMITS.get(operator.activation, ("-INFINITY_F", "INFINITY_F"))]
    if operator.pool is not None:
        pairs.append(_FLOAT_LIMITS.get(operator.pool.activation, ("-INFINITY_F", "INFINITY_F")))
    lows = [low for low, _ in pairs if low != "-INFINITY_F"] or ["-INFINITY_F"]
    highs = [high for _, high in pairs if high != "INFINITY_F"] or ["INFINITY_F"]
    return {"low": max(lows, key=lambda text: 0 if "I" in text else float(text[:-1])),
            "high": highs[0]}  # fmt: skip


_FLOAT_LIMITS = {
    RELU: ("0.0f", "INFINITY_F"),
    RELU6: ("0.0f", "6.0f"),
    RELU_N1_TO_1: ("-1.0f", "1.0f"),
}


def _multipliers(
    operator: Operator, low: int, high: int, values: Values, bias: Values
) -> list[tuple[int, int]]:
    """Return multiplier and shift of each output of an operator with weights.

    Args:
        operator: the operator.
        low: the smallest integer of the output.
        high: the largest integer of the output.
        values: the weights minus their zero point.
        bias: the bias of the file.

    Raises:
        ModelFileError: no multiplier gives the rounding of a dense layer.
    """
    source, weights, output = operator.input(), operator.input(1), operator.output
    outputs = weights.shape[-1 if operator.kind == "DEPTHWISE_CONV_2D" else 0]
    scales = [source.scale * scale / output.scale for scale in weights.scales]
    if operator.kind != "FULLY_CONNECTED":
        if source.dtype == "uint8":
            product = float(np.float32(source.scale) * np.float32(weights.scale))
            scales = [product / output.scale]
        pairs = [fixed_point.quantize_multiplier(scale) for scale in scales]
    else:
        zero, in_zero = stored_zero(output), stored_zero(source)
        scales = scales if len(scales) > 1 else scales * outputs
        lowest, highest = values * (-128 - in_zero), values * (127 - in_zero)
        least = np.minimum(lowest, highest).sum(axis=(1, 2)) + bias
        most = np.maximum(lowest, highest).sum(axis=(1, 2)) + bias
        pairs = []
        for scale, sums in zip(
            scales, zip(least.tolist(), most.tolist(), strict=True), strict=True
        ):
            results = (low - zero, high - zero)
            pair = fixed_point.single_rounding_multiplier(scale, results, sums)
            if pair is None:
                raise ModelFileError(
                    f"{operator.described} has the scale {scale:g}, which the native format does"
                    " not cover; quantize the model again"
                )
            pairs.append(pair)
    return pairs if len(pairs) > 1 else pairs * outputs


def _binary_scales(operator: Operator) -> dict[str, object]:
    a, b, output = operator.input(0), operator.input(1), operator.output
    fields: dict[str, object] = {"a_zero": stored_zero(a), "b_zero": stored_zero(b)}
    if operator.kind == "MUL":
        product = np.float32(a.scale) * np.float32(b.scale) / np.float32(output.scale)
        scales = {"": float(product)}
    else:
        twice = 2 * max(a.scale, b.scale)
        scales = {
            "a_": a.scale / twice,
            "b_": b.scale / twice,
            "": twice / ((1 << 20) * output.scale),
        }
    for prefix, scale in scales.items():
        multiplier, shift = fixed_point.quantize_multiplier(scale)
        fields |= {f"{prefix}multiplier": multiplier, f"{prefix}shift": shift}
    return fields


def _table(operator: Operator) -> Values:
    """Return the result of an int8 function for every integer from -128 to 127."""
    source, output = operator.input(), operator.output
    zero, out_zero = stored_zero(source), stored_zero(output)
    ratio = float(np.float32(source.scale) / np.float32(output.scale))
    kind = operator.kind
    if kind in ("LOGISTIC", "TANH"):
        function = fixed_point.logistic if kind == "LOGISTIC" else fixed_point.hyperbolic_tangent
        low = 0 if source.dtype == "uint8" else -128
        table = fixed_point.table_of(
            function, source.scale, source.zero, output.scale, output.zero, low
        )
        return np.array([value - (128 if low == 0 else 0) for value in table], np.int8)
    if kind == "QUANTIZE":
        ratio = source.scale / output.scale
    identity = fixed_point.quantize_multiplier(ratio)
    low, high = {
        "RELU": _activation_limits(output, RELU),
        "RELU6": _activation_limits(output, RELU6),
        "RELU_N1_TO_1": _activation_limits(output, RELU_N1_TO_1),
        "RELU_0_TO_1": (
            max(-128, out_zero),
            min(127, out_zero + _rounded_division(1.0, output.scale)),
        ),
    }.get(kind, (-128, 127))
    alpha = (0, 0)
    if kind == "LEAKY_RELU":
        slope = np.float32(source.scale) * np.float32(operator.options.alpha)
        alpha = fixed_point.quantize_multiplier(float(slope / np.float32(output.scale)))
    values = []
    for integer in range(-128, 128):
        multiplier, shift = alpha if kind == "LEAKY_RELU" and integer < zero else identity
        sign = -1 if multiplier < 0 else 1
        scaled = sign * fixed_point.scale_twice(integer - zero, abs(multiplier), shift)
        values.append(min(max(scaled + out_zero, low), high))
    return np.array(values, np.int8)


def _nearest(before: int, after: int, aligned: bool, centred: bool) -> Values:
    """Return the input index of each output index of a resize, in TensorFlow Lite's floats."""
    f = np.float32
    scale = f(before - 1) / f(after - 1) if aligned and after > 1 else f(before) / f(after)
    offset = f(0.5) if centred else f(0)
    indices = []
    for position in range(after):
        place = float((f(position) + offset) * scale)
        index = math.floor(place + 0.5) if aligned else math.floor(place)
        index = min(index, before - 1)
        indices.append(max(index, 0) if centred else index)
    return np.array(indices, np.int16)
