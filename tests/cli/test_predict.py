"""Tests of `predict` on real images, as text and as JSON, and on files that are not images."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import needs
from tests.bare_venv import BARE, BareVenv
from tests.cli.test_errors import one_line
from tests.conftest import LenetEdge
from tests.data.draw import FOLDER

EXPORTED = Path(__file__).parents[2] / "exported"
SEVEN, THREE = FOLDER / "7-hasty-crayon.jpg", FOLDER / "3-hasty-crayon.jpg"
MODEL = ("--model", EXPORTED / "lenet_int8.tflite")


def test_each_image_has_a_line(lenet_edge: LenetEdge) -> None:
    done = lenet_edge("predict", SEVEN, THREE, *MODEL)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[:2] for line in lines] == [[str(SEVEN), "7"], [str(THREE), "3"]]
    assert all(float(line[2]) > 50 and line[3] == "%" for line in lines)


def test_the_smallest_tflite_file_in_exported_is_the_default_model(
    lenet_edge: LenetEdge, tmp_path: Path
) -> None:
    shutil.copytree(EXPORTED, tmp_path / "exported")
    facts = json.loads(lenet_edge("predict", SEVEN, "--json", "-").stdout)
    assert (facts["file"], facts["target"]) == ("lenet_dynamic.tflite", "litert-xnnpack")
    (image,) = facts["images"]
    assert image["image"] == str(SEVEN)
    assert image["label"] == "7"
    assert image["confidence"] == max(image["probabilities"].values())
    assert image["inference_s"] > 0


@pytest.mark.parametrize(
    ("file", "name", "target"),
    [
        pytest.param(
            "lenet_float32.tflite",
            "tflite-runtime",
            "tflite-runtime-cpu",
            marks=needs.tflite_runtime,
        ),
        ("lenet_float32.tflite", "litert-reference", "litert-reference"),
        ("lenet_int8.onnx", "onnx", "onnxruntime-cpu"),
        ("lenet_float32.onnx", "openvino", "openvino-cpu"),
        ("lenet_dynamic.tflite", None, "litert-xnnpack"),
    ],
)
def test_a_file_runs_on_the_selected_runtime(
    lenet_edge_here: LenetEdge, file: str, name: str | None, target: str
) -> None:
    option = ("--target", name) if name else ()
    done = lenet_edge_here("predict", SEVEN, "--model", EXPORTED / file, *option, "--json", "-")
    facts = json.loads(done.stdout)
    assert (facts["target"], facts["images"][0]["label"]) == (target, "7")


def test_a_folder_stands_for_the_images_in_it(lenet_edge_here: LenetEdge, tmp_path: Path) -> None:
    (tmp_path / "photos" / "more").mkdir(parents=True)
    shutil.copy(SEVEN, tmp_path / "photos" / "b.JPG")
    shutil.copy(THREE, tmp_path / "photos" / "more" / "a.jpg")
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    done = lenet_edge_here("predict", "photos", *MODEL)
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["photos/b.JPG", "7"], ["photos/more/a.jpg", "3"],
    ]  # fmt: skip


def test_standard_input() -> None:
    command = [sys.executable, "-m", "lenet_edge", "predict", "-", *map(str, MODEL)]
    done = subprocess.run(command, input=SEVEN.read_bytes(), capture_output=True, timeout=60)
    assert done.stdout.split()[:2] == [b"-", b"7"]


def test_an_unusable_image_is_an_error_and_the_others_are_classified(
    lenet_edge_here: LenetEdge, tmp_path: Path
) -> None:
    (tmp_path / "diary.png").write_text("Dear diary, today I drew a seven.")
    (tmp_path / "empty.jpg").touch()
    Image.fromarray(np.full((50, 50), 255, np.uint8)).save(tmp_path / "blank.png")
    done = lenet_edge_here("predict", "diary.png", "empty.jpg", "gone.png", "blank.png", SEVEN,
                      *MODEL, "--json", "out.json")  # fmt: skip
    assert done.returncode == 1
    assert done.stdout.split()[1] == "7"
    assert done.stderr.splitlines() == [
        "Error: diary.png is not a PNG or JPEG image; convert it to PNG",
        "Error: empty.jpg is empty; give a PNG or JPEG image",
        "Error: gone.png: no such file; give a PNG or JPEG image or a folder",
        "Error: there is no digit in blank.png; it is blank, or the ink is too faint",
    ]
    images = json.loads((tmp_path / "out.json").read_text())["images"]
    assert ["error" in image for image in images] == [True, True, True, True, False]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ([], 2, "IMAGE"),
        (["."], 1, "holds no images (.png, .jpg, .jpeg)"),
        ([SEVEN], 1, "no exported files in exported"),
        ([SEVEN, "--model", "gone.tflite"], 1, "gone.tflite: no such file"),
        ([SEVEN, "--model", SEVEN], 1, "not a model file"),
        ([SEVEN, *MODEL, "--target", "litret"], 1, "did you mean litert"),
        ([SEVEN, *MODEL, "--target", "onnxruntime"], 1, "onnxruntime runs files of another format"),
    ],
    ids=range(7),
)
def test_wrong_usage(
    lenet_edge_here: LenetEdge, arguments: list[str | Path], status: int, says: str
) -> None:
    done = lenet_edge_here("predict", *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert says in one_line(done.stderr)


def test_a_damaged_model_is_an_error_of_one_line(
    lenet_edge_here: LenetEdge, tmp_path: Path
) -> None:
    content = bytearray((EXPORTED / "lenet_int8.tflite").read_bytes())
    content[30_000:] = b""
    (tmp_path / "cut.tflite").write_bytes(content)
    done = lenet_edge_here("predict", SEVEN, "--model", "cut.tflite")
    assert done.returncode == 1
    assert "cut.tflite" in one_line(done.stderr)


def test_a_model_of_other_classes_gets_the_image_scaled_only(
    lenet_edge_here: LenetEdge, tmp_path: Path
) -> None:
    """Name the classes of a digit model after clothes: predict must not crop or invert."""
    for name in ("lenet_int8.onnx", "lenet_int8.onnx.json"):
        shutil.copy(EXPORTED / name, tmp_path / name)
    manifest = tmp_path / "lenet_int8.onnx.json"
    facts = json.loads(manifest.read_text())
    facts["labels"] = [f"shirt {number}" for number in range(10)]
    manifest.write_text(json.dumps(facts))
    ink = np.zeros((280, 280), np.uint8)
    ink[40:240, 130:150] = 255  # white on black and centred, as in MNIST
    Image.fromarray(ink).save(tmp_path / "one.png")
    Image.fromarray(255 - ink).save(tmp_path / "black.png")
    done = lenet_edge_here("predict", "one.png", "black.png", "--model", "lenet_int8.onnx",
                      "--json", "-")  # fmt: skip
    labels = [image["label"] for image in json.loads(done.stdout)["images"]]
    assert labels[0] == "shirt 1"
    assert labels[1] != "shirt 1"


@needs.tflite_runtime
@pytest.mark.parametrize(
    ("command", "packages"), [("predict", "pillow"), ("serve", "pillow tornado")]
)
def test_a_missing_extra_is_named(tmp_path: Path, command: str, packages: str) -> None:
    venv = BareVenv(tmp_path / "venv")
    venv.add(*BARE, "tflite_runtime")
    arguments = [SEVEN, *MODEL] if command == "predict" else [MODEL[1]]
    done = subprocess.run(
        [venv.python, "-m", "lenet_edge", command, *map(str, arguments)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert one_line(done.stderr).endswith(f"install it with: pip install {packages}")
