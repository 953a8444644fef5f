"""Tests of the plot of a training."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from PIL import Image

from lenet_edge.report.plots import plot_training


@pytest.mark.parametrize(
    ("losses", "accuracies"),
    [([1.2], [1.0]), ([1.2], [0.5]), ([1.2, 0.5], [0.5, 1.0]), ([0.0, 0.0], [1.0, 1.0])],
    ids=["one epoch without errors", "one epoch", "usual", "zeros"],
)
@pytest.mark.parametrize("title", ["photos", "a$b$ \\x 犬"])
def test_a_training_is_plotted_without_warnings(
    tmp_path: Path, losses: list[float], accuracies: list[float], title: str
) -> None:
    epochs = [
        {"epoch": number, "loss": loss, "accuracy": accuracy}
        for number, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True), start=1)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_training(epochs, title, tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as image:
        assert image.size == (960, 540)
