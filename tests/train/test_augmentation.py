"""The warp moves what it should, as far as it should, and draws the same for the same seed."""

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

STILL = {"rotation": 0.0, "shift": 0.0, "zoom": 0.0, "shear": 0.0, "elastic": 0.0}
TURN, SHIFT_Y, SHIFT_X = 0, 4, 5


@pytest.fixture(scope="module")
def images() -> npt.NDArray[np.float32]:
    return to_input(mnist.load("test").images[:20])


def warp(images: Any, uniform: Any, **how_far: float) -> Any:
    normal = np.zeros((len(images), 2, 8, 8), np.float32)
    return augmentation.warp_images(
        images, uniform, normal, Augmentation(**{**STILL, **how_far})
    ).numpy()


def moves(count: int, **by: float) -> npt.NDArray[np.float32]:
    uniform = np.zeros((count, 6), np.float32)
    for name, value in by.items():
        uniform[:, {"turn": TURN, "down": SHIFT_Y, "right": SHIFT_X}[name]] = value
    return uniform


def test_no_distance_changes_nothing(images: npt.NDArray[np.float32]) -> None:
    np.testing.assert_allclose(warp(images, moves(20, turn=1.0)), images, atol=1e-6)


def test_a_whole_pixel_s_shift_is_a_roll(images: npt.NDArray[np.float32]) -> None:
    found = warp(images, moves(20, down=-1.0, right=0.5), shift=2.0)  # up by 2: takes from above
    expected = np.zeros_like(images)
    expected[:, 2:, :-1] = images[:, :-2, 1:]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_quarter_turn_is_rot90(images: npt.NDArray[np.float32]) -> None:
    found = warp(images, moves(20, turn=1.0), rotation=90.0)
    np.testing.assert_allclose(found, np.rot90(images, k=1, axes=(1, 2)), atol=1e-4)


def test_the_elastic_warp_has_the_deviation_it_is_asked_for() -> None:
    uniform, normal = augmentation.draw_random_numbers(1, 4000, (28, 28, 1), tf.constant([1, 2]))
    how_far = Augmentation(**{**STILL, "elastic": 0.5})
    y, x = augmentation.source_coordinates(28, 28, uniform[0], normal[0], how_far)
    rows, columns = np.mgrid[:28, :28]
    for found, still in ((y, rows), (x, columns)):
        assert np.std(found - still) == pytest.approx(0.5, rel=0.02)
        neighbours = np.diff(found - still, axis=-1)
        assert np.std(neighbours) < 0.2  # smooth: neighbours move together


def test_the_same_seed_draws_the_same() -> None:
    first, again, other = (
        augmentation.draw_random_numbers(2, 3, (28, 28, 1), tf.constant([7, key]))
        for key in (1, 1, 2)
    )
    for one, two, three in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one, two)
        assert not np.allclose(one, three)


def test_colours_move_together() -> None:
    grey = np.random.default_rng(0).random((5, 32, 20, 1), np.float32)
    uniform, normal = augmentation.draw_random_numbers(1, 5, (32, 20, 3), tf.constant([1, 1]))
    bent = augmentation.warp_images(
        np.repeat(grey, 3, axis=-1), uniform[0], normal[0], Augmentation()
    )
    assert bent.shape == (5, 32, 20, 3)
    np.testing.assert_array_equal(bent[..., 0], bent[..., 2])
    assert not np.allclose(bent[..., :1], grey, atol=0.01)
