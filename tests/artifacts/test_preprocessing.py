"""Tests of the rule that turns pixels into input values."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from lenet_edge.artifacts.preprocessing import (
    IMAGENET,
    MNIST,
    PIXELS,
    SIGNED,
    UNIT,
    Preprocessing,
    apply,
    from_mean_std,
    from_pixel_scale,
    infer_from_floats,
    infer_from_tensor,
    to_input_values,
)

ALL = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
COLOURS = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)


def test_scales_divide_as_training_frameworks_do() -> None:
    assert (apply(ALL, UNIT) == ALL.astype(np.float32) / 255).all()
    assert (apply(ALL, SIGNED) == ALL.astype(np.float32) / np.float32(127.5) - 1).all()
    assert (apply(ALL, PIXELS) == ALL).all()
    assert apply(ALL, UNIT).dtype == np.float32


def test_mean_and_std_are_those_of_torchvision() -> None:
    expected = (COLOURS / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    np.testing.assert_allclose(apply(COLOURS, IMAGENET), expected, rtol=1e-5, atol=1e-6)
    mean, std = IMAGENET.mean_std
    assert mean == pytest.approx((0.485, 0.456, 0.406))
    assert std == pytest.approx((0.229, 0.224, 0.225))
    with pytest.raises(ValueError, match="3 channels"):
        apply(ALL, IMAGENET)


def test_bgr_swaps_the_channels_before_the_scale_of_each() -> None:
    caffe = from_pixel_scale(1.0, (-103.939, -116.779, -123.68), channels="bgr")
    expected = COLOURS[..., ::-1] - np.array((103.939, 116.779, 123.68))
    np.testing.assert_allclose(apply(COLOURS, caffe), expected, rtol=1e-5)


@pytest.mark.parametrize("rule", [UNIT, SIGNED, PIXELS, MNIST, IMAGENET], ids=str)
@pytest.mark.parametrize("kind", ["pixels", "0..1", "-1..1", "input values"])
def test_float_images_mean_the_same_in_each_usual_scale(rule: Any, kind: Any) -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), np.uint8)
    floats = {
        "pixels": images.astype(np.float32),
        "0..1": images / 255,
        "-1..1": images / 127.5 - 1,
        "input values": apply(images, rule),
    }[kind]
    if kind == "-1..1" and rule in (MNIST, IMAGENET):
        pytest.skip("floats of -1..1 lie in the range of the input values")
    np.testing.assert_allclose(to_input_values(floats, rule), apply(images, rule), atol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point", "expected"),
    [
        ("int8", 1 / 255, -128, UNIT),
        ("uint8", 1 / 255, 0, UNIT),
        ("int8", 0.9 / 255, -128, UNIT),
        ("int8", 2 / 255, -1, SIGNED),
        ("int8", 1 / 128, 0, SIGNED),
        ("uint8", 1.0, 0, PIXELS),
        ("uint8", 0.95, 0, PIXELS),
        ("int8", (2.64 + 2.118) / 255, -14, IMAGENET),
        ("int8", (2.8215 + 0.4242) / 255, -95, MNIST),
        ("int8", 0.5 / 255, -128, None),
        ("int8", 7 / 255, 0, None),
        ("float32", None, None, None),
        ("int8", float("nan"), 0, None),
    ],
)
def test_the_range_of_a_quantized_input_implies_its_scaling(
    dtype: Any, scale: Any, zero_point: Any, expected: Any
) -> None:
    inferred = infer_from_tensor(dtype, scale, zero_point)
    if expected is None:
        assert inferred is None
    else:
        assert inferred is not None
        assert inferred.origin == "inferred"
        assert inferred.detail.startswith("the input tensor, which holds ")
        assert (inferred.scale, inferred.offset) == (expected.scale, expected.offset)


def test_the_range_of_float_images_implies_their_scaling() -> None:
    for floats, expected in (
        (ALL / 255, UNIT),
        (ALL / 127.5 - 1, SIGNED),
        (ALL.astype(np.float32), PIXELS),
        (apply(ALL, MNIST), MNIST),
    ):
        inferred = infer_from_floats(floats)
        assert inferred is not None
        assert (inferred.scale, inferred.offset) == (expected.scale, expected.offset)
    assert infer_from_floats(ALL / 255 * 7 - 2) is None


@pytest.mark.parametrize(
    "facts",
    [
        {"scale": ()},
        {"scale": (0.0,)},
        {"scale": (1e-310,)},
        {"scale": (float("inf"),)},
        {"scale": (1, 1)},
        {"offset": ("a",)},
        {"channels": "cmyk"},
        {"resize": "shrink"},
        {"filter": "best"},
        {"origin": "guessed"},
    ],
)
def test_impossible_values_are_refused(facts: Any) -> None:
    with pytest.raises(ValueError, match=r" (is|have) "):
        Preprocessing(**facts)


def test_json_keeps_every_field() -> None:
    rule = from_mean_std((0.5, 0.4, 0.3), 0.2, channels="bgr", origin="said", resize="crop")
    assert Preprocessing(**rule.to_json()) == rule
    assert dataclasses.replace(rule, origin="assumed").is_assumed


def test_text_names_the_input_values() -> None:
    assert str(PIXELS) == "pixels of 0 to 255"
    assert str(UNIT) == "pixels scaled to 0..1"
    caffe = from_pixel_scale(1, (-104, -117, -124), channels="bgr")
    assert str(caffe) == "pixels of 0 to 255 minus 104, 117, 124, channels in the order BGR"
    assert str(SIGNED) == "pixels scaled to -1..1"
    assert str(IMAGENET).endswith("mean 0.485, 0.456, 0.406 and std 0.229, 0.224, 0.225")
    assert str(from_pixel_scale(-1 / 255, 1.0)) == "inverted pixels scaled to 1..0"
