"""Tests of the conversion of images of any layout to the input of a model of any layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.artifacts.preprocessing import IMAGENET, UNIT, Preprocessing, apply
from lenet_edge.classifier_io import to_model_input
from lenet_edge.errors import TargetError

GRAY = np.random.default_rng(0).integers(0, 256, (3, 6, 6, 1), np.uint8)
RGB = np.random.default_rng(1).integers(0, 256, (3, 6, 6, 3), np.uint8)
LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "last": lambda images: images,
    "first": lambda images: np.moveaxis(images, -1, 1),
    "none": lambda images: images[..., 0],
    "flat": lambda images: images.reshape(len(images), -1),
}


def model(shape: tuple[int, ...], rule: Preprocessing) -> Artifact:
    return Artifact(
        path=Path("model.onnx"), format="onnx", precision="unknown", batch_size=None,
        inputs=(TensorSpec("x", (None, *shape), "float32"),), outputs=(), size_bytes=1,
        sha256="0" * 64, parent_sha256=None, converter="", calibration=None, created_at="",
        preprocessing=rule,
    )  # fmt: skip


@pytest.mark.parametrize("stored", LAYOUTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gray_images_of_every_layout_fit_every_layout(stored: str, layout: str) -> None:
    expected = LAYOUTS[layout](apply(GRAY, UNIT))
    values = to_model_input(LAYOUTS[stored](GRAY), model(expected.shape[1:], UNIT))
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("stored", ["last", "first", "flat"])
@pytest.mark.parametrize("layout", ["last", "flat"])
@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_values_of_each_channel_follow_the_layout(stored: str, layout: str, channels: Any) -> None:
    rule = Preprocessing(IMAGENET.scale, IMAGENET.offset, channels)
    expected = LAYOUTS[layout](apply(RGB, rule))
    values = to_model_input(LAYOUTS[stored](RGB), model(expected.shape[1:], rule))
    np.testing.assert_array_equal(values, expected)
    assert (channels == "bgr") != np.array_equal(apply(RGB, rule), apply(RGB, IMAGENET))


def test_images_that_do_not_fit_are_named() -> None:
    with pytest.raises(
        TargetError, match=r"takes images of shape 6 x 6 x 3 and these are 6 x 6 x 1"
    ):
        to_model_input(GRAY, model((6, 6, 3), UNIT))
    with pytest.raises(TargetError, match=r"model\.onnx cannot take these images: it has a scale"):
        to_model_input(GRAY, model((6, 6, 3), IMAGENET))
