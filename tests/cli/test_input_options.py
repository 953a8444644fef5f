"""Tests of the options that say what a model takes, with models that are wrong on another scale."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lenet_edge.artifacts.artifact import load_artifact
from tests.conftest import LenetEdge
from tests.foreign_models import LEVELS, ForeignModel

pytestmark = pytest.mark.costly

QUESTION = (
    "model.onnx does not say what it takes; fed pixels of 0 to 255 (say otherwise with"
    " --pixel-scale, --mean and --std)"
)


def save(folder: Path, model: ForeignModel, name: str) -> list[str]:
    """Write a model and an image of each class; return the names of the images."""
    model.save(folder).rename(folder / name)
    pictures = []
    for number, level in enumerate(LEVELS):
        pictures.append(f"grey_{number}.png")
        Image.fromarray(np.full((16, 16), level, np.uint8)).save(folder / pictures[-1])
    return pictures


def predicted(folder: Path) -> list[str]:
    facts = json.loads((folder / "out.json").read_text())
    return [image["label"] for image in facts["images"]]


def test_stated_values_are_fed(tmp_path: Path, lenet_edge_here: LenetEdge) -> None:
    model = ForeignModel("onnx-nchw", "signed", "softmax", "gray")
    pictures = save(tmp_path, model, "model.onnx")
    common = ("predict", *pictures, "--model", "model.onnx", "--json", "out.json")
    done = lenet_edge_here(*common)
    assert QUESTION in done.stderr.splitlines()
    assert json.loads((tmp_path / "out.json").read_text())["question"] == QUESTION
    for options in (
        ("--pixel-scale", "1/127.5", "--pixel-offset", "-1"),
        ("--mean", "0.5", "--std", "0.5"),
        ("--mean", "127.5", "--std", "127.5"),
    ):
        done = lenet_edge_here(*common, *options)
        assert (done.returncode, done.stderr) == (0, "")
        assert predicted(tmp_path) == ["0", "1", "2", "3"]
    # The manifest of `describe` replaces the options.
    (tmp_path / "names.txt").write_text("0 night\n1 dusk\n2 dawn\n3 day\n")
    done = lenet_edge_here("describe", "model.onnx", "--mean", "0.5", "--std", "0.5",
                           "--labels", "names.txt")  # fmt: skip
    assert "takes pixels scaled to -1..1 (said); 4 labels" in done.stdout
    done = lenet_edge_here(*common)
    assert (done.returncode, done.stderr) == (0, "")
    assert predicted(tmp_path) == ["night", "dusk", "dawn", "day"]
    assert load_artifact(tmp_path / "model.onnx").preprocessing.origin == "said"
    # A model that is trained again has another hash.
    save(tmp_path, ForeignModel("onnx-nchw", "unit", "softmax", "gray"), "model.onnx")
    assert "write its manifest again with: lenet-edge describe" in lenet_edge_here(*common).stderr
    done = lenet_edge_here("describe", "model.onnx", "--pixel-scale", "1/255")
    assert "takes pixels scaled to 0..1 (said); no labels" in done.stdout, done.stderr
    done = lenet_edge_here(*common)
    assert (done.returncode, done.stderr) == (0, "")
    assert predicted(tmp_path) == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--pixel-scale", "bright"), "--pixel-scale: 'bright' is not a number or a list of three"),
        (("--pixel-scale", "1/0"), "--pixel-scale: '1/0' is not a number"),
        (("--pixel-scale", "nan"), "a scale or an offset is not finite"),
        (("--pixel-scale", "0"), "a scale is 0"),
        (("--std", "0"), "a standard deviation is 0"),
        (("--pixel-offset", "1"), "--pixel-offset needs --pixel-scale"),
        (("--pixel-scale", "1", "--mean", "0"), "two ways to say it; give one"),
        (("--mean", "0.1,0.2"), "one value, or one for each of three channels"),
        (("--mean", "0.1,0.2,0.3"), "model.onnx takes images of 1 channel(s)"),
        (("--channels", "bgr"), "model.onnx takes images of 1 channel(s)"),
        (("--labels", "missing.txt"), "missing.txt: no such file"),
        (("--labels", "two.txt"), "model.onnx has 4 outputs, and --labels names 2 classes"),
    ],
)
def test_bad_values_are_one_line(
    tmp_path: Path, lenet_edge_here: LenetEdge, options: tuple[str, ...], message: str
) -> None:
    save(tmp_path, ForeignModel("onnx-nchw", "unit", "softmax", "gray"), "model.onnx")
    (tmp_path / "two.txt").write_text("cat\ndog\n")
    done = lenet_edge_here("describe", "model.onnx", *options)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "model.onnx.json").exists()


@pytest.mark.parametrize(
    ("file", "rule"),
    [("tflite-uint8", "unit"), ("tflite-int8", "signed"), ("tflite-int8", "pixels")],
)
def test_the_range_of_a_quantized_input_is_fed(
    tmp_path: Path, lenet_edge_here: LenetEdge, file: str, rule: str
) -> None:
    model = ForeignModel(file, rule, "softmax", "gray")
    pictures = save(tmp_path, model, "model.tflite")
    done = lenet_edge_here("predict", *pictures, "--model", "model.tflite", "--json", "out.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert predicted(tmp_path) == ["0", "1", "2", "3"]
    # A float file of the same model takes the same values.
    save(tmp_path, ForeignModel("tflite-float32", rule, "softmax", "gray"), "float.tflite")
    images, labels = model.images(1000)
    np.savez(tmp_path / "pixels.npz", images=images, labels=labels)
    done = lenet_edge_here(
        "verify", "model.tflite", "--reference", "float.tflite", "--data", "pixels.npz",
        "--target", "litert-xnnpack",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
