"""Values of an ONNX graph during its conversion to TensorFlow, in any order of their axes.

ONNX puts the channels first, TensorFlow Lite last. A `Value` stores its axes in some order and
remembers it. An ONNX Transpose changes only the order. A tensor is transposed only where an
operator needs another order than the stored one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import tensorflow as tf  # isort: skip

Order = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Value:
    """One value of an ONNX graph.

    Attributes:
        tensor: a NumPy array if it is constant, else a TensorFlow tensor.
        order: the ONNX axis that each stored axis holds.
        flattened: the sizes, in the order of ONNX, of the axes that were joined to the last axis;
            empty if the last axis has the order of ONNX.
        flat_order: the order in which the last axis holds them.
        is_nonnegative: True if no element can be below 0.
    """

    tensor: Any
    order: Order
    flattened: tuple[int, ...] = ()
    flat_order: Order = ()
    is_nonnegative: bool = False

    @property
    def is_constant(self) -> bool:
        """True if the value does not depend on the input."""
        return isinstance(self.tensor, np.ndarray)

    @property
    def stored_shape(self) -> tuple[int | None, ...]:
        """The sizes of the stored axes; None for a free batch."""
        return tuple(self.tensor.shape)

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The sizes of the axes in the order of ONNX."""
        sizes = self.stored_shape
        return tuple(sizes[self.order.index(axis)] for axis in range(len(sizes)))

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.order)

    def axis(self, axis: int) -> int:
        """Return the stored axis of an ONNX axis, which may be negative."""
        return self.order.index(axis % self.rank)

    def stored_as(self, order: Order) -> Value:
        """Return the value with its axes in another order."""
        plain = self.unflattened()
        if plain.order == order:
            return plain
        perm = [plain.order.index(axis) for axis in order]
        return replace(plain, tensor=_transpose(plain.tensor, perm), order=order)

    def plain(self) -> Value:
        """Return the value with its axes in the order of ONNX."""
        return self.stored_as(tuple(range(self.rank)))

    def unflattened(self) -> Value:
        """Return the value with the elements of its last axis in the order of ONNX."""
        if not self.flattened:
            return self
        lead = self.stored_shape[:-1]
        split = reshape(self.tensor, (*lead, *(self.flattened[axis] for axis in self.flat_order)))
        back = [len(lead) + self.flat_order.index(axis) for axis in range(len(self.flattened))]
        turned = _transpose(split, [*range(len(lead)), *back])
        joined = reshape(turned, (*lead, math.prod(self.flattened)))
        return replace(self, tensor=joined, flattened=(), flat_order=())

    def shuffle(self, array: Any, axis: int) -> Any:
        """Return a constant whose axis has the elements of the last axis, in the stored order."""
        if not self.flattened:
            return array
        axis %= array.ndim
        before, after = array.shape[:axis], array.shape[axis + 1 :]
        split = array.reshape(*before, *self.flattened, *after)
        perm = [
            *range(axis),
            *(axis + part for part in self.flat_order),
            *range(axis + len(self.flattened), split.ndim),
        ]
        return np.ascontiguousarray(split.transpose(perm)).reshape(array.shape)

    def with_tensor(self, tensor: Any, is_nonnegative: bool = False) -> Value:
        """Return another tensor whose elements have the same order."""
        return replace(self, tensor=tensor, is_nonnegative=is_nonnegative)


def plain(tensor: Any, is_nonnegative: bool = False) -> Value:
    """Return a value whose axes have the order of ONNX."""
    return Value(tensor, tuple(range(len(tensor.shape))), is_nonnegative=is_nonnegative)


def channels_last(rank: int) -> Order:
    """Return the order with the ONNX axis 1 at the end: (0, 2, 3, 1) for images."""
    return (0, *range(2, rank), 1)


def reshape(tensor: Any, sizes: Sequence[int | None]) -> Any:
    """Return a tensor with other sizes; one of them may be None.

    A reshape of a reshaped tensor needs only the second one, or none.
    """
    targets = [-1 if size is None else size for size in sizes]
    if isinstance(tensor, np.ndarray):
        return tensor.reshape(targets)
    while tensor.op.type == "Reshape":
        tensor = tensor.op.inputs[0]
    return tensor if list(tensor.shape) == list(sizes) else tf.reshape(tensor, targets)


def _transpose(tensor: Any, perm: Sequence[int]) -> Any:
    """Transpose a tensor; a Reshape suffices if only axes of size 1 change their places."""
    if list(perm) == list(range(len(perm))):
        return tensor
    if isinstance(tensor, np.ndarray):
        return np.ascontiguousarray(tensor.transpose(perm))
    sizes = [tensor.shape[axis] for axis in perm]
    moved = [axis for axis in perm if tensor.shape[axis] != 1]
    if moved == sorted(moved):
        return reshape(tensor, sizes)
    return tf.transpose(tensor, perm)


def reshape_value(value: Value, sizes: Sequence[int | None]) -> Value:
    """Return a value with other sizes, as ONNX's Reshape computes it.

    Axes that are joined or split stay where they are stored. So a value with channels last is
    rarely transposed. If all axes after the first are joined to one, the result remembers their
    order.

    Args:
        value: the value.
        sizes: the new sizes in the order of ONNX; None for the free batch.
    """
    value = value.unflattened()
    groups = _groups(value.shape, sizes)
    if groups is None:
        return plain(reshape(value.plain().tensor, sizes), value.is_nonnegative)
    # Axes of size 1 have no place of their own; the batch stays first.
    moved = [axis for axis in value.order if value.shape[axis] != 1 or axis == 0]
    groups.sort(key=lambda group: _place(moved, group[0]))
    wide = [axis for inputs, _ in groups for axis in inputs if axis in moved]
    if wide != moved:
        joined = [outputs for inputs, outputs in groups if any(a in moved[1:] for a in inputs)]
        if value.order[0] == 0 and joined == [[1]] and len(sizes) == 2:
            return Value(
                reshape(value.tensor, sizes),
                (0, 1),
                tuple(size or 0 for size in value.shape[1:]),
                tuple(axis - 1 for axis in value.order[1:]),
                value.is_nonnegative,
            )
        value = value.stored_as(tuple(axis for inputs, _ in groups for axis in inputs))
    order = tuple(axis for _, outputs in groups for axis in outputs)
    tensor = reshape(value.tensor, [sizes[axis] for axis in order])
    return Value(tensor, order, is_nonnegative=value.is_nonnegative)


def _place(moved: list[int], axes: list[int]) -> float:
    places = [moved.index(axis) for axis in axes if axis in moved]
    return min(places, default=math.inf)


def _groups(
    before: Sequence[int | None], after: Sequence[int | None]
) -> list[tuple[list[int], list[int]]] | None:
    """Return the smallest groups of axes that a Reshape joins and splits, as (before, after).

    None if the free batch is joined with other axes.
    """
    groups: list[tuple[list[int], list[int]]] = []
    first = second = 0
    while first < len(before) or second < len(after):
        inputs: list[int] = []
        outputs: list[int] = []
        sizes: list[int | None] = [1, 1]
        if first < len(before):
            inputs.append(first)
            sizes[0] = before[first]
            first += 1
        if second < len(after):
            outputs.append(second)
            sizes[1] = after[second]
            second += 1
        while sizes[0] != sizes[1]:
            left, right = sizes
            if left is None or right is None:
                # An axis of size 1 may stand before the free batch.
                return None
            if left < right and first < len(before):
                size = before[first]
                inputs.append(first)
                first += 1
                sizes[0] = None if size is None else left * size
            elif right < left and second < len(after):
                size = after[second]
                outputs.append(second)
                second += 1
                sizes[1] = None if size is None else right * size
            else:
                return None
        groups.append((inputs, outputs))
    return groups


def extended(value: Value, rank: int) -> Value:
    """Return a value with axes of size 1 before the others, as ONNX broadcasts it."""
    missing = rank - value.rank
    order = (*range(missing), *(axis + missing for axis in value.order))
    return Value(reshape(value.tensor, ((1,) * missing + value.stored_shape)), order)


def is_nonnegative_value(value: Value) -> bool:
    """Return True if no element of a value can be below 0."""
    return bool((value.tensor >= 0).all()) if value.is_constant else value.is_nonnegative
