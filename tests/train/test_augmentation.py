"""Tests of the distortion of training images: shifts, rotation, elastic warp and seeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lenet_edge.data import mnist
from lenet_edge.data.dataset import to_input
from lenet_edge.train import augmentation
from lenet_edge.train.recipe import Augmentation

import tensorflow as tf  # isort: skip

NO_DISTORTION = {"rotation": 0.0, "shift": 0.0, "zoom": 0.0, "shear": 0.0, "elastic": 0.0}
TURN, SHIFT_Y, SHIFT_X = 0, 4, 5


@pytest.fixture(scope="module")
def images() -> npt.NDArray[np.float32]:
    return to_input(mnist.load("test").images[:20])


def warp(images: Any, uniform: Any, **limits: float) -> Any:
    normal = np.zeros((len(images), 2, 8, 8), np.float32)
    return augmentation.warp_images(
        images, uniform, normal, Augmentation(**{**NO_DISTORTION, **limits})
    ).numpy()


def uniform_numbers(count: int, **values: float) -> npt.NDArray[np.float32]:
    uniform = np.zeros((count, 6), np.float32)
    for name, value in values.items():
        uniform[:, {"turn": TURN, "down": SHIFT_Y, "right": SHIFT_X}[name]] = value
    return uniform


def test_limits_of_zero_change_nothing(images: npt.NDArray[np.float32]) -> None:
    np.testing.assert_allclose(warp(images, uniform_numbers(20, turn=1.0)), images, atol=1e-6)


def test_a_shift_by_whole_pixels_moves_the_pixels(images: npt.NDArray[np.float32]) -> None:
    # The numbers scale the limit: sample from 2 pixels above and from 1 pixel to the right.
    warped = warp(images, uniform_numbers(20, down=-1.0, right=0.5), shift=2.0)
    expected = np.zeros_like(images)
    expected[:, 2:, :-1] = images[:, :-2, 1:]
    np.testing.assert_allclose(warped, expected, atol=1e-6)


def test_a_rotation_by_90_degrees_is_rot90(images: npt.NDArray[np.float32]) -> None:
    warped = warp(images, uniform_numbers(20, turn=1.0), rotation=90.0)
    np.testing.assert_allclose(warped, np.rot90(images, k=1, axes=(1, 2)), atol=1e-4)


def test_the_elastic_warp_has_the_standard_deviation_of_the_recipe() -> None:
    uniform, normal = augmentation.draw_random_numbers(1, 4000, (28, 28, 1), tf.constant([1, 2]))
    limits = Augmentation(**{**NO_DISTORTION, "elastic": 0.5})
    y, x = augmentation.source_coordinates(28, 28, uniform[0], normal[0], limits)
    rows, columns = np.mgrid[:28, :28]
    for moved, original in ((y, rows), (x, columns)):
        assert np.std(moved - original) == pytest.approx(0.5, rel=0.02)
        neighbours = np.diff(moved - original, axis=-1)
        assert np.std(neighbours) < 0.2  # smooth: neighbouring pixels move together


def test_the_same_seed_gives_the_same_numbers() -> None:
    first, again, other = (
        augmentation.draw_random_numbers(2, 3, (28, 28, 1), tf.constant([7, key]))
        for key in (1, 1, 2)
    )
    for numbers, same, different in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(numbers, same)
        assert not np.allclose(numbers, different)


def test_all_channels_are_distorted_alike() -> None:
    grey = np.random.default_rng(0).random((5, 32, 20, 1), np.float32)
    uniform, normal = augmentation.draw_random_numbers(1, 5, (32, 20, 3), tf.constant([1, 1]))
    warped = augmentation.warp_images(
        np.repeat(grey, 3, axis=-1), uniform[0], normal[0], Augmentation()
    )
    assert warped.shape == (5, 32, 20, 3)
    np.testing.assert_array_equal(warped[..., 0], warped[..., 2])
    assert not np.allclose(warped[..., :1], grey, atol=0.01)
