"""Random inputs for models of any kind, and those of .npz files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import Artifact, TensorSpec, describe_file
from lenet_edge.artifacts.stated_input import StatedInput
from lenet_edge.errors import DataError, UsageError
from lenet_edge.model_inputs import (
    has_state_inputs,
    random_inputs,
    read_inputs,
    settled_shape,
)


def spec(shape: tuple[int | None, ...], dtype: str = "float32", **quantization: Any) -> TensorSpec:
    return TensorSpec("x", shape, dtype, **quantization)


@pytest.mark.parametrize(
    ("tensor", "lowest", "highest"),
    [
        (spec((1, 500)), 0.0, 1.0),
        (spec((1, 500), "float16"), 0.0, 1.0),
        (spec((1, 500), "float64"), 0.0, 1.0),
        (spec((1, 5000), "int8", scale=0.5, zero_point=3), -128, 127),
        (spec((1, 5000), "uint8"), 0, 255),
        (spec((1, 500), "int32"), 0, 1),  # they may be indexes of a small table
        (spec((1, 500), "int64"), 0, 1),
        (spec((1, 500), "bool"), 0, 1),
    ],
)
def test_random_values_fill_the_declared_range(
    tensor: TensorSpec, lowest: float, highest: float
) -> None:
    first, second = (call["x"] for call in random_inputs([tensor], 1, 2))
    assert (first.dtype, first.shape) == (np.dtype(tensor.dtype), tensor.shape)
    assert not np.array_equal(first, second)
    assert first.min() == pytest.approx(lowest, abs=0.02)
    assert first.max() == pytest.approx(highest, abs=0.02)


def test_the_first_size_is_the_batch() -> None:
    assert settled_shape(spec((None, 4)), 8) == (8, 4)
    assert settled_shape(spec((2, 4)), 8) == (2, 4)
    assert settled_shape(spec(()), 8) == ()


@pytest.mark.parametrize(
    ("shape", "guess"),
    [
        ((None, 3, None, None), "1,3,224,224"),
        ((None, None, None, 3), "1,224,224,3"),
        ((None, 3, 48, None), "1,3,48,48"),
        ((None, None), "1,1"),
        ((2, None, 128), "2,1,128"),
    ],
)
def test_the_error_for_free_sizes_has_an_option(shape: tuple[int | None, ...], guess: str) -> None:
    with pytest.raises(DataError, match=f"the input x takes .*; .* --input-shape x={guess}$"):
        settled_shape(spec(shape), 1)


@pytest.mark.parametrize(
    ("shape", "stored", "batch", "calls"),
    [
        ((None, 2), (6, 2), 2, 3),  # three batches of two rows
        ((None, 2), (1, 2), 4, 1),  # a row, repeated
        ((2, 2), (4, 2), 2, 2),
        ((1, 3, 2), (5, 1, 3, 2), 1, 5),  # an axis more than the input
        ((), (), 1, 1),
        ((), (3,), 1, 3),
        ((None, None), (4, 7), 4, 1),  # the array settles a free size
    ],
)
def test_rows_of_a_file_are_the_inputs_of_several_calls(
    tmp_path: Path, shape: tuple[int | None, ...], stored: tuple[int, ...], batch: int, calls: int
) -> None:
    values = np.arange(np.prod(stored, dtype=int), dtype=np.float32).reshape(stored)
    np.savez(tmp_path / "in.npz", x=values)
    read = read_inputs(tmp_path / "in.npz", [spec(shape)], batch)
    assert len(read) == calls
    assert {call["x"].ndim for call in read} == {len(shape)}
    used = np.concatenate([call["x"].ravel() for call in read])
    assert set(used) == set(values.ravel())


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": np.zeros(4), "z": np.zeros(4)}, "has the arrays y, z, and the model has the inputs"),
        ({"x": np.zeros((1, 5))}, "x in .* has shape 1 x 5, and the input takes any x 4"),
        ({"x": np.array(["text"])}, "x in .* give numbers"),
        (None, "no such file"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, arrays: Any, message: str) -> None:
    if arrays is not None:
        np.savez(tmp_path / "in.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read_inputs(tmp_path / "in.npz", [spec((None, 4))], 1)


def test_calls_reuse_shorter_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.zeros((3, 4)), rate=np.array(16000))
    read = read_inputs(tmp_path / "in.npz", [spec((1, 4)), TensorSpec("rate", (), "int64")], 1)
    assert [int(call["rate"]) for call in read] == [16000] * 3


@pytest.mark.parametrize(
    ("inputs", "outputs", "expected"),
    [
        (("input", "state", "sr"), ("output", "stateN"), True),
        (("input", "h0"), ("output", "hn"), True),
        (("x", "past_key_values.0.key"), ("y", "present.0.key"), True),
        (("state",), ("next",), False),
        (("image", "mask"), ("boxes", "scores"), False),
        (("left", "cache"), (), False),
    ],
)
def test_a_state_is_recognised_by_its_name(
    inputs: tuple[str, ...], outputs: tuple[str, ...], expected: bool
) -> None:
    sides = [[TensorSpec(name, (1, 2), "float32") for name in side] for side in (inputs, outputs)]
    assert has_state_inputs(*sides) is expected


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ("x=1,3,48", "--input-shape x=1,3,48: the input takes any,3,48,any; give a size"),
        ("x=1,4,48,9", "the input takes any,3,48,any; give a size for each axis"),
        ("y=1,3,48,20", "free.tflite has the inputs x, state; name one of them"),
        ("x", "is not a name and its sizes, such as x=1,3,48,192"),
        ("x=1,3,48,0", "is not a name and its sizes, such as x=1,3,48,192"),
    ],
)
def test_a_stated_shape_that_does_not_fit_is_refused(
    tmp_path: Path, stated: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        StatedInput.parse({"input_shapes": (stated,)}).describe(free_artifact(tmp_path))


def test_stated_shapes_settle_the_batch(tmp_path: Path) -> None:
    free = free_artifact(tmp_path)
    for shapes in (("x=4,3,48,20", "other=1"), {"x": (4, 3, 48, 20)}):
        settled = StatedInput.parse({"input_shapes": shapes}).describe(free)
        assert [tensor.shape for tensor in settled.inputs] == [(4, 3, 48, 20), (None, 8)]
        assert settled.batch_size == 1  # the inputs have no common batch
    fixed = dataclasses.replace(free, inputs=(spec((2, 4)),))
    assert StatedInput.parse({"input_shapes": ("other=1",)}).describe(fixed) == fixed


def free_artifact(folder: Path) -> Artifact:
    """Describe a file with the input x, whose width is free, and the input state."""
    path = folder / "free.tflite"
    path.touch()
    return describe_file(
        path, precision="unknown", batch_size=None, parent_sha256=None, converter="unknown",
        inputs=(spec((None, 3, 48, None)), TensorSpec("state", (None, 8), "float32")),
        outputs=(TensorSpec("y", (1,), "float32"),), calibration=None,
    )  # fmt: skip
