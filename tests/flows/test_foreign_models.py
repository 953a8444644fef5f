"""Test of a user's own images, from a folder to verified files with the class names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from lenet_edge.data import mnist
from tests.conftest import LenetEdge

CLASSES = ("six", "seven", "eight")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Write digits as PNG files of another size, one folder for each class."""
    data = mnist.load("test")
    for digit, name in zip((6, 7, 8), CLASSES, strict=True):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number, image in enumerate(data.images[data.labels == digit][:300]):
            picture = Image.fromarray(image[..., 0]).resize((40, 36))
            picture.save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


@pytest.mark.slow
def test_train_export_verify_and_bench_with_a_folder_of_images(
    lenet_edge: LenetEdge, lenet_edge_here: LenetEdge, photos: Path, tmp_path: Path
) -> None:
    names = tuple(sorted(CLASSES))
    checkpoint = "out/digits.keras"
    done = lenet_edge("train", "--dataset", photos, "--epochs", "30", "--output", checkpoint)
    assert done.returncode == 0, done.stderr
    assert "of 135 test images right" in done.stdout
    history = json.loads((tmp_path / "out/digits.training/history.json").read_text())
    assert history["test_accuracy"] > 0.8
    assert len(history["epochs"]) == 30
    assert list((tmp_path / "out/digits.training").glob("events.out.tfevents.*"))
    with Image.open(tmp_path / "out/digits.training/curve.png") as curve:
        assert curve.size > (400, 300)

    done = lenet_edge_here("export", checkpoint, "--output-dir", "out")
    assert done.returncode == 1
    assert "name the model's images with --dataset" in done.stderr.splitlines()[-1]
    done = lenet_edge("export", checkpoint, "--int8", "--dataset", photos, "--output-dir", "out")
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "out/digits_int8.tflite.json").read_text())
    assert tuple(manifest["labels"]) == names

    files = [f"out/digits_{p}.{f}" for p in ("float32", "int8") for f in ("tflite", "onnx")]
    done = lenet_edge("verify", *files, "--target", "litert-xnnpack", "--target",
                      "onnxruntime-cpu", "--max-accuracy-drop", "2", "--json", "-")  # fmt: skip
    assert done.returncode == 0, done.stderr
    reports = json.loads(done.stdout)["parity"]
    assert {report["num_samples"] for report in reports} == {135}
    assert {report["candidate"] for report in reports} == {Path(file).name for file in files}
    float32 = [report for report in reports if "float32" in report["candidate"]]
    assert [report["top1_agreement"] for report in float32] == [1, 1]
    done = lenet_edge("bench", files[0], "--target", "litert-xnnpack", "--batch-size", "1")
    assert done.returncode == 0, done.stderr
