"""Input values for models of any kind: random ones, and those of an .npz file."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lenet_edge.artifacts.artifact import TensorSpec
from lenet_edge.errors import DataError
from lenet_edge.support import npz
from lenet_edge.support.printable import make_printable
from lenet_edge.target import Array, describe_shape

_IMAGE_SIDE = 224  # the usual size of the images of models that take any size
_STATE = re.compile(
    r"(?:^|[^a-z])(?:state|hidden|cell|cache|past|memory|[hc](?:x|n|_?0|_?in)?)(?:[^a-z]|$)", re.I
)


def random_inputs(
    specs: Sequence[TensorSpec], batch_size: int, count: int, seed: int = 0
) -> list[dict[str, Array]]:
    """Return random values for a number of calls, an array for each input by name.

    Quantized integers and bytes have their whole range. Floats are uniform in 0..1. Other integers
    may be indexes, so they are 0 or 1.

    Args:
        specs: the inputs.
        batch_size: the first size of an input that leaves it free.
        count: the number of calls.
        seed: the seed of the values.

    Raises:
        DataError: an input has a free size beside the first.
    """
    generator = np.random.default_rng(seed)
    shapes = [settled_shape(spec, batch_size) for spec in specs]
    return [
        {
            spec.name: _random(generator, spec, shape)
            for spec, shape in zip(specs, shapes, strict=True)
        }
        for _ in range(count)
    ]


def _random(generator: np.random.Generator, spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return np.asarray(generator.random(shape), dtype)
    if dtype.kind == "b" or (spec.scale is None and dtype.itemsize > 1):
        return np.asarray(generator.integers(0, 2, shape), dtype)
    limits = np.iinfo(dtype)
    return np.asarray(generator.integers(limits.min, limits.max, shape, dtype, endpoint=True))


def settled_shape(spec: TensorSpec, batch_size: int) -> tuple[int, ...]:
    """Return the shape of an input at a batch size.

    Raises:
        DataError: a size beside the first is free; the message has the option that states it.
    """
    if None in spec.shape[1:]:
        sizes = ",".join(map(str, _guess(spec.shape)))
        option = shlex.quote(f"{make_printable(spec.name)}={sizes}")
        raise DataError(
            f"the input {make_printable(spec.name)} takes {describe_shape(spec.shape)}; state its"
            f" sizes, such as --input-shape {option}"
        )
    return tuple(batch_size if size is None else size for size in spec.shape)


def _guess(shape: Sequence[int | None]) -> list[int]:
    """Return a shape with a likely value for each free size: that of an image, or else 1."""
    guess = [size or 1 for size in shape]
    if len(shape) == 4:
        channels_first = shape[1] in (1, 3) and shape[3] not in (1, 3)
        if channels_first or shape[3] in (1, 3):
            rows, columns = (2, 3) if channels_first else (1, 2)
            guess[rows] = shape[rows] or shape[columns] or _IMAGE_SIDE
            guess[columns] = shape[columns] or shape[rows] or _IMAGE_SIDE
    return guess


def read_inputs(path: Path, specs: Sequence[TensorSpec], batch_size: int) -> list[dict[str, Array]]:
    """Read the values for one call or more from an .npz file with an array for each input.

    An array of the input's shape is the values of one call. More rows than the input takes are the
    values of several calls; so are arrays of one more axis. The calls reuse shorter arrays in turn.

    Args:
        path: the file. The array of a model with one input may have any name.
        specs: the inputs. The arrays settle their free sizes.
        batch_size: the rows of one call, for an input that leaves its first size free.

    Returns:
        An array for each input by name, for each call.

    Raises:
        DataError: the file is missing or damaged, or its arrays are not those of the inputs.
    """
    try:
        arrays = npz.read_arrays(path)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give the path of an .npz file") from None
    except ValueError as error:
        raise DataError(f"{path} cannot be read as .npz ({error}); write it again") from error
    return split_inputs(arrays, specs, batch_size, path)


def split_inputs(
    arrays: Mapping[str, Array], specs: Sequence[TensorSpec], batch_size: int, path: Path
) -> list[dict[str, Array]]:
    """Return the values for each call from arrays of all calls, see `read_inputs`.

    Args:
        arrays: an array for each input.
        specs: the inputs.
        batch_size: the rows of one call, for an input that leaves its first size free.
        path: the file of the arrays, for messages.

    Raises:
        DataError: the arrays are not those of the inputs.
    """
    names = [spec.name for spec in specs]
    if len(names) == 1 and len(arrays) == 1:
        arrays = dict(zip(names, arrays.values(), strict=True))
    if sorted(arrays) != sorted(names):
        raise DataError(
            f"{path} has the arrays {', '.join(map(make_printable, arrays)) or 'none'}, and the"
            f" model has the inputs {', '.join(map(make_printable, names)) or 'none'}; give one"
            " array for each input"
        )
    calls = {spec.name: _split(arrays[spec.name], spec, batch_size, path) for spec in specs}
    count = max(map(len, calls.values()), default=1)
    return [{name: each[n % len(each)] for name, each in calls.items()} for n in range(count)]


def _split(array: Array, spec: TensorSpec, batch_size: int, path: Path) -> list[Array]:
    """Return the values of each call that an array holds."""
    name = make_printable(spec.name)
    if array.dtype.kind not in "biuf" or not array.size:
        raise DataError(f"{name} in {path} is {array.dtype} of shape {array.shape}; give numbers")
    if array.ndim == len(spec.shape) + 1:
        calls = list(array)
    elif array.ndim == len(spec.shape) > 0:
        rows = spec.shape[0] or batch_size
        count = max(len(array) // rows, 1)
        calls = [array]
        if spec.shape[0] is None or count > 1:
            calls = np.split(array[np.arange(count * rows) % len(array)], count)
    else:
        calls = [array]
    if any(
        call.ndim != len(spec.shape)
        or any(
            size not in (None, actual) for size, actual in zip(spec.shape, call.shape, strict=True)
        )
        for call in calls
    ):
        raise DataError(
            f"{name} in {path} has shape {describe_shape(array.shape)}, and the input takes"
            f" {describe_shape(spec.shape)}; give arrays of that shape"
        )
    return [np.ascontiguousarray(call).reshape(call.shape) for call in calls]


def has_state_inputs(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bool:
    """Return True if a model takes its state as an input and returns it as an output.

    Args:
        inputs: the inputs. The name of a state shows that it is one.
        outputs: the outputs. One of them has the type and the axes of the state.
    """
    kinds = {(spec.dtype, len(spec.shape)) for spec in outputs}
    return len(inputs) > 1 and any(
        _STATE.search(spec.name) and (spec.dtype, len(spec.shape)) in kinds for spec in inputs
    )
