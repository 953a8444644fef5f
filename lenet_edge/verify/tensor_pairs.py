"""Pairs of the inputs or outputs of two files: by name, by shape or by order, and their layouts."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.errors import DataError, ModelFileError
from lenet_edge.inspection.tflite_file import read_file
from lenet_edge.support.printable import make_printable

AS_IS, LAST, FIRST, FLAT = "", "channels moved last", "channels moved first", "reshaped"
# Parts that converters add to the names of inputs and outputs.
_ADDED = re.compile(r"^serving_default_|^StatefulPartitionedCall/|:0$")


@dataclass(frozen=True)
class TensorPair:
    """A tensor of the reference and the same tensor of a candidate, by their numbers.

    `rule` is "name", "shape" or "order".
    """

    reference: int
    candidate: int
    rule: str


def names_of(artifact: Artifact, side: str) -> list[set[str]]:
    """Return the names of each input or output: its own, and that in the signature of a .tflite.

    Args:
        artifact: the file.
        side: "inputs" or "outputs".
    """
    specs: Sequence[TensorSpec] = getattr(artifact, side)
    names = [{spec.name, _ADDED.sub("", spec.name)} for spec in specs]
    if artifact.format == "tflite":
        try:
            file = read_file(artifact.path)
        except ModelFileError:  # the runtime has opened it
            return names
        numbers = getattr(file.graphs[0], side)
        for entry in file.signatures[:1]:
            for name, number in getattr(entry, side).items():
                if not entry.graph and number in numbers and len(numbers) == len(names):
                    names[numbers.index(number)].add(name)
    return names


def pair_tensors(
    reference: Sequence[set[str]],
    candidate: Sequence[set[str]],
    reference_shapes: Sequence[tuple[int | None, ...]],
    candidate_shapes: Sequence[tuple[int | None, ...]],
) -> list[TensorPair]:
    """Pair the tensors of two files.

    Tensors with a common name are pairs. Of the others, those whose sizes no other tensor has are
    pairs. The rest are pairs in their order, if both files have equally many.

    Args:
        reference: the names of each tensor of the reference.
        candidate: the names of each tensor of the candidate.
        reference_shapes: the shape of each tensor; None is a free size.
        candidate_shapes: the shape of each tensor.

    Returns:
        The pairs, in the order of the reference. A tensor without a counterpart is in no pair.
    """
    pairs = []
    left, right = list(range(len(reference))), list(range(len(candidate)))
    for i in list(left):
        matches = [j for j in right if reference[i] & candidate[j]]
        if len(matches) == 1:
            pairs.append(TensorPair(i, matches[0], "name"))
            left.remove(i)
            right.remove(matches[0])
    left_keys = Counter(_sizes(reference_shapes[i]) for i in left)
    right_keys = Counter(_sizes(candidate_shapes[j]) for j in right)
    for i in list(left):
        key = _sizes(reference_shapes[i])
        if left_keys[key] == right_keys[key] == 1 and len(left_keys) > 1:
            (j,) = (j for j in right if _sizes(candidate_shapes[j]) == key)
            pairs.append(TensorPair(i, j, "shape"))
            left.remove(i)
            right.remove(j)
    if len(left) == len(right):
        pairs += [TensorPair(i, j, "order") for i, j in zip(left, right, strict=True)]
    return sorted(pairs, key=lambda pair: pair.reference)


def _sizes(shape: Sequence[int | None]) -> tuple[int, ...]:
    """Return the sizes in ascending order, without those of 1: equal for all layouts."""
    return tuple(sorted(-1 if size is None else size for size in shape if size != 1))


def pair_inputs(reference: Artifact, candidate: Artifact) -> list[TensorPair]:
    """Pair the inputs of two files.

    Raises:
        DataError: an input has no counterpart, or holds values of another kind.
    """
    pairs = pair_tensors(
        names_of(reference, "inputs"),
        names_of(candidate, "inputs"),
        [spec.shape for spec in reference.inputs],
        [spec.shape for spec in candidate.inputs],
    )
    if len(pairs) != len(reference.inputs) or len(pairs) != len(candidate.inputs):
        own, other = (
            ", ".join(make_printable(spec.name) for spec in file.inputs) or "none"
            for file in (reference, candidate)
        )
        raise DataError(
            f"{reference.name} has the inputs {own}, and {candidate.name} has {other}; compare"
            " files of the same model"
        )
    for pair in pairs:
        entry, counterpart = reference.inputs[pair.reference], candidate.inputs[pair.candidate]
        if _kind(entry) != _kind(counterpart):
            raise DataError(
                f"the input {make_printable(entry.name)} holds {_words(entry)} in"
                f" {reference.name} and {_words(counterpart)} in {candidate.name};"
                " compare files that take the same values, or images with --data and --pixel-scale"
            )
    return pairs


def _kind(spec: TensorSpec) -> str:
    is_real = spec.scale is not None or np.dtype(spec.dtype).kind == "f"
    return "real" if is_real else np.dtype(spec.dtype).kind.replace("u", "i")


def _words(spec: TensorSpec) -> str:
    return f"integers ({spec.dtype})" if _kind(spec) == "i" else f"values of {spec.dtype}"


def layouts(shape: tuple[int, ...], wanted: Sequence[int | None]) -> list[str]:
    """Return the ways to rearrange an array for a tensor: unchanged first; empty if none fits."""
    moved = {AS_IS: shape}
    if len(shape) > 2:
        moved[LAST] = (shape[0], *shape[2:], shape[1])
    if len(shape) > 3:  # with three axes, both moves are the same
        moved[FIRST] = (shape[0], shape[-1], *shape[1:-1])
    ways = [
        way
        for way, sizes in moved.items()
        if len(sizes) == len(wanted)
        and all(size in (None, own) for size, own in zip(wanted, sizes, strict=True))
    ]
    known = [size for size in wanted if size is not None]
    if not ways and len(known) == len(wanted):
        is_flat = math.prod(shape) == math.prod(known) and min(len(shape), len(known)) <= 2
        if is_flat or [s for s in shape if s != 1] == [s for s in known if s != 1]:
            ways.append(FLAT)
    return ways


def rearrange(array: npt.NDArray[Any], way: str, wanted: Sequence[int | None]) -> npt.NDArray[Any]:
    """Return an array in another layout, as `layouts` names it."""
    if way == LAST:
        return np.ascontiguousarray(np.moveaxis(array, 1, -1))
    if way == FIRST:
        return np.ascontiguousarray(np.moveaxis(array, -1, 1))
    if way == FLAT:
        return array.reshape([size or 1 for size in wanted])
    return array


def choices(ways: Sequence[Sequence[str]]) -> Iterator[tuple[str, ...]]:
    """Yield a layout for each input: all unchanged where possible, then all moved alike."""
    yield tuple(each[0] for each in ways)
    for moved in (LAST, FIRST):
        if any(moved in each and len(each) > 1 for each in ways):
            yield tuple(moved if moved in each else each[0] for each in ways)
