"""Tests of trainings on few images of a user."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.conftest import LenetEdge

CORNERS = {"circle": 90, "square": 4, "triangle": 3}


def write_shapes(root: Path, count: int) -> None:
    """Write circles, squares and triangles of any place, size, direction and brightness."""
    random = np.random.default_rng(0)
    for name, corners in CORNERS.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            image = Image.new("L", (40, 40), int(random.integers(0, 60)))
            radius = random.uniform(8, 15)
            x, y = random.uniform(radius + 1, 39 - radius, 2)
            start = random.uniform(0, 2 * math.pi)
            angles = [start + 2 * math.pi * corner / corners for corner in range(corners)]
            outline = [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]
            ImageDraw.Draw(image).polygon(outline, fill=int(random.integers(140, 255)))
            noisy = np.asarray(image) + random.normal(0, 25, (40, 40))
            pixels = noisy.clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")


@pytest.mark.slow
def test_360_simple_shapes_are_learnt(lenet_edge: LenetEdge, tmp_path: Path) -> None:
    write_shapes(tmp_path / "shapes", 120)
    done = lenet_edge("train", "--dataset", "shapes", "--output", "shapes.keras", "--json", "-")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["test_accuracy"] > 0.95
    assert facts["data"]["classes"]["circle"] == {"training": 102, "test": 18}
    assert "recipe quick has 16 images in a batch instead of 128 and" in done.stderr
    assert "Warning" not in done.stderr


@pytest.mark.costly
def test_one_epoch_of_few_images_prints_no_warning(lenet_edge: LenetEdge, tmp_path: Path) -> None:
    write_shapes(tmp_path / "shapes", 3)
    (tmp_path / "shapes/circle/photo.heic").write_bytes(b"x")
    done = lenet_edge("train", "--dataset", "shapes", "--epochs", "1", "--network", "cnn-3k",
                      "--output", "shapes.keras", "--json", "facts.json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    lines = done.stderr.splitlines()
    assert lines.index("Loading TensorFlow ...") > lines.index(
        "3 classes, 6 training images and 3 test images"
    )
    assert "Left out, because only PNG and JPEG files are used: 1 .heic" in lines
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert facts["data"]["largest_file"] == [40, 40]
    assert f"{facts['test_accuracy']:.2%} of 3 test images right" in done.stdout


def test_bad_images_are_reported_before_tensorflow_loads(
    lenet_edge: LenetEdge, tmp_path: Path
) -> None:
    write_shapes(tmp_path / "shapes", 3)
    for name in CORNERS:
        (tmp_path / "shapes" / name / "0.png").write_bytes(b"%!PS")
    for command in (["train", "--output", "x.keras"], ["run"]):
        done = lenet_edge(*command, "--dataset", "shapes")
        assert done.returncode == 1
        assert "Loading TensorFlow" not in done.stderr
        (line,) = (line for line in done.stderr.splitlines() if line.startswith("Error"))
        assert line.startswith("Error: 3 of 9 images in shapes cannot be used: circle/0.png is not")
