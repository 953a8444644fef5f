"""Tests of the summary that `train` shows before the training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from lenet_edge.data import image_folder, mnist
from lenet_edge.data.dataset import Dataset, FileFacts
from lenet_edge.data.summary import DataSummary


def test_the_summary_says_what_is_scaled_and_lost(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    for name, count in (("cat", 4), ("dog", 8)):
        (tmp_path / name).mkdir()
        for i in range(count):
            size = (2800, 1400) if (name, i) == ("dog", 0) else (20 + i, 20)
            Image.new("RGB", size, "red").save(tmp_path / name / f"{i}.png", exif=exif)
    (tmp_path / "cat/9.heic").write_bytes(b"x")
    summary = DataSummary.of(*image_folder.load(tmp_path))
    assert summary.lines() == [
        "2 classes, 10 training images and 2 test images",
        "Training + test images of each class: cat 3 + 1, dog 7 + 1",
        "Images of 20 x 20 to 1,400 x 2,800 pixels become 28 x 28 pixels, in colour. Details are"
        " lost: in the largest, 50 x 100 pixels become one. The sides are scaled separately, which"
        " changes the proportions",
        "Left out, because only PNG and JPEG files are used: 1 .heic",
    ]
    assert json.loads(json.dumps(summary.to_json())) == {
        "training_images": 10,
        "test_images": 2,
        "classes": {"cat": {"training": 3, "test": 1}, "dog": {"training": 7, "test": 1}},
        "image_shape": [28, 28, 3],
        "smallest_file": [20, 20],
        "largest_file": [1400, 2800],
        "remarks": ["Left out, because only PNG and JPEG files are used: 1 .heic"],
    }


def test_the_summary_of_many_classes_is_short() -> None:
    assert DataSummary.of(mnist.load("train"), mnist.load("test")).lines() == [
        "10 classes, 60,000 training images and 10,000 test images",
        "Training images of each class: 5,421 (5) to 6,742 (1)",
        "Images: 28 x 28 pixels, grey",
    ]


def test_the_summary_names_classes_without_images() -> None:
    labels = np.array([0, 2], np.int32)
    images = np.zeros((2, 28, 28, 1), np.uint8)
    data = Dataset("x", images, labels, ("0", "1", "2"), FileFacts(remarks=("A remark",)))
    assert DataSummary.of(data, data).lines()[-2:] == [
        "Classes without training images: 1",
        "A remark",
    ]
