"""Trained ranges inside a .keras file."""

import zipfile
from pathlib import Path

import pytest

from lenet_edge.artifacts.keras_file import check_keras_file
from lenet_edge.artifacts.trained_ranges import (
    MEMBER,
    TrainedRanges,
    WeightScales,
    add_ranges,
    read_ranges,
)
from lenet_edge.errors import ModelFileError

RANGES = TrainedRanges(
    "int4",
    {"image": (0.0, 1.0), "base/relu": (0.0, 5.5), "logits": (-9.0, 12.0)},
    {"base/conv": WeightScales(8, (0.01, 0.02)), "logits": WeightScales(4, (0.1,))},
)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", '{"class_name": "Sequential", "config": {}}')
    return path


def test_ranges_survive_the_file(checkpoint: Path) -> None:
    assert read_ranges(checkpoint) is None
    add_ranges(checkpoint, RANGES)
    assert read_ranges(checkpoint) == RANGES
    assert RANGES.weights["logits"].largest == 7
    check_keras_file(checkpoint)  # the further member is accepted


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"int4"', '"int3"'),
        ('"image"', '"picture"'),
        ("5.5", "-5.5"),
        ("12.0", "NaN"),
        ('"bits":4', '"bits":5'),
        ("[0.1]", "[0.0]"),
        ("[0.1]", '["0.1"]'),
        ("{", "["),
    ],
)
def test_damaged_ranges_are_one_error(checkpoint: Path, old: str, new: str) -> None:
    text = RANGES.to_json()
    assert old in text
    with zipfile.ZipFile(checkpoint, "a") as archive:
        archive.writestr(MEMBER, text.replace(old, new, 1))
    with pytest.raises(ModelFileError, match="damaged trained ranges"):
        read_ranges(checkpoint)
