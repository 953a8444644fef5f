"""Tests that the fused forward pass computes the network of model.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lenet_edge.data import mnist
from lenet_edge.data.dataset import to_input
from lenet_edge.model import build_lenet
from lenet_edge.train.fused_forward import fits, fused_forward

import tensorflow as tf  # isort: skip

pytestmark = pytest.mark.costly


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 20, 3), (27, 31, 1)], ids=str)
def test_logits_and_gradients_equal_those_of_the_model(shape: tuple[int, int, int]) -> None:
    tf.keras.utils.set_random_seed(3)
    model = build_lenet(10, shape)
    assert fits(model)
    if shape == (28, 28, 1):  # in the blank parts of real images, all four neighbours are equal
        images = to_input(mnist.load("test").images[:64])
    else:
        images = np.random.default_rng(3).random((64, *shape), np.float32)
    labels = tf.one_hot(np.arange(64) % 10, 10)
    loss_function = tf.keras.losses.CategoricalCrossentropy(from_logits=True)

    def run(forward: Any) -> tuple[Any, list[Any]]:
        with tf.GradientTape() as tape:
            logits = forward(images)
            loss = loss_function(labels, logits)
        return logits, tape.gradient(loss, model.trainable_variables)

    logits, gradients = run(model)
    fused_logits, fused_gradients = run(tf.function(fused_forward(model), jit_compile=True))
    np.testing.assert_allclose(fused_logits, logits, atol=1e-6)
    for variable, fused, expected in zip(
        model.trainable_variables, fused_gradients, gradients, strict=True
    ):
        np.testing.assert_allclose(fused, expected, atol=1e-6, err_msg=variable.path)
