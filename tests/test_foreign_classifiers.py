"""The commands on classifiers that lenet-edge did not make: right, or a question.

Each model of `foreign_models.kinds` is wrong and sure of itself when it is fed on another scale.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from lenet_edge.cli import main
from tests.foreign_models import ForeignModel, kinds

SURE = 0.9


@dataclass(frozen=True)
class Case:
    """A model on the disk, with images of its own in a file and as pictures.

    `classes` are the numbers of the classes in the pictures.
    """

    kind: ForeignModel
    path: Path
    data: Path
    pictures: list[Path]
    classes: list[int]

    def run(self, *arguments: str | Path) -> Result:
        """Run a command; it may fail, but not with a traceback."""
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        return result

    def predict(self, model: Path, *options: str) -> dict[str, Any]:
        """Return the JSON of `predict` for the pictures."""
        result = self.run("predict", *self.pictures, "--model", model, "--json", "-", *options)
        assert result.exit_code == 0, result.output
        facts: dict[str, Any] = json.loads(result.stdout)
        return facts

    def wrong(self, facts: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the predictions of another class than that of the picture."""
        return [
            image
            for image, number in zip(facts["images"], self.classes, strict=True)
            if predicted_class(image) != number
        ]


def predicted_class(image: dict[str, Any]) -> int:
    """Return the class of a prediction; of independent outputs, how many are on."""
    if image.get("labels") is not None:
        return len(image["labels"])
    return int(image["label"])


def make(kind: ForeignModel, folder: Path) -> Case:
    images, labels = kind.images(200)
    data = folder / "own.npz"
    arrays = {"images": images} if kind.head == "sigmoids" else {"images": images, "labels": labels}
    np.savez(data, **arrays)
    pictures = [folder / f"{number}.png" for number in range(4)]
    for picture, pixels in zip(pictures, images, strict=False):
        Image.fromarray(pixels if pixels.shape[-1] == 3 else pixels[..., 0]).save(picture)
    return Case(kind, kind.save(folder), data, pictures, labels[:4].tolist())


# Those of every run hold each kind of file, rule, head and layout.
EVERY_RUN = ("keras-unit", "tflite-float32-pixels", "tflite-int8-unit", "tflite-uint8-signed",
             "onnx-nchw-mean-std", "onnx-nhwc-unit")  # fmt: skip


def cases() -> list[Any]:
    """Return all kinds with whether to measure them; those that only CI runs are marked as slow."""
    marked = []
    for kind in kinds():
        group = f"{kind.file}-{kind.rule_name}"
        is_slow = group not in EVERY_RUN
        marks = pytest.mark.slow if is_slow else pytest.mark.costly
        marked.append(pytest.param(kind, not is_slow, id=str(kind), marks=marks))
    return marked


@pytest.mark.parametrize(("kind", "measured_too"), cases())
def test_right_or_a_question(kind: ForeignModel, measured_too: bool, tmp_path: Path) -> None:
    case = make(kind, tmp_path)
    options = kind.options()
    target = {".onnx": "onnxruntime-cpu"}.get(kind.suffix, "litert-xnnpack")
    if kind.suffix == ".keras":
        files = export(case, options)
    else:
        files = [case.path]
        # Without a word from the user: right, or a question.
        silent = case.predict(case.path)
        assert silent["question"] or not case.wrong(silent), silent
        if silent["question"]:
            verified = case.run(
                "verify", case.path, "--reference", case.path, "--data", case.data,
                "--target", target, "--json", tmp_path / "silent.json",
            )  # fmt: skip
            assert verified.exit_code == 4, verified.output
    stated = [] if kind.suffix == ".keras" else options
    for file in files:
        assert case.wrong(case.predict(file, *stated)) == []
    arguments: list[str | Path] = []  # export has recorded them for its files
    if kind.suffix != ".keras":
        arguments = ["--reference", case.path, "--data", case.data, *options]
    results = tmp_path / "verified.json"
    done = case.run("verify", *files, *arguments, "--target", target, "--json", results)
    status = done.exit_code
    assert status in (0, 4), done.output  # 4: too few images for a bound
    if not measured_too:
        return
    measured = tmp_path / "measured.json"
    done = case.run(
        "bench", *files, *stated, "--target", target, "--batch-size", "1", "--rounds", "1",
        "--min-time", "0.01", "--max-time", "0.1", "--json", measured,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    done = case.run("report", results, measured, "--output", tmp_path / "report.md")
    assert done.exit_code == status, done.output


def export(case: Case, options: list[str]) -> list[Path]:
    """Export a Keras model as its author says and without a word; return the files of the first."""
    folder = case.path.parent / "stated"
    common = ("export", case.path, "--int8", "--format", "tflite", "--calibration", case.data)
    done = case.run(*common, *options, "--output-dir", folder)
    assert done.exit_code == 0, done.output
    assert "on 100.0% of" in done.stderr
    silent = case.path.parent / "silent"
    done = case.run(*common, "--output-dir", silent)
    assert done.exit_code == 0, done.output
    file = next(silent.glob("*_int8.tflite"))
    facts = case.predict(file)
    assert facts["question"] or not case.wrong(facts), (facts, done.output)
    return sorted(folder.glob("*.tflite"))
