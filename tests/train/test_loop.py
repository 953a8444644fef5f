"""Tests of the training loop: reproducibility, progress, invalid data and the checkpoint."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest

from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.data import mnist
from lenet_edge.data.dataset import Dataset
from lenet_edge.errors import DataError, LenetEdgeError
from lenet_edge.model import build_lenet
from lenet_edge.networks import Architecture, Block
from lenet_edge.train import loop
from lenet_edge.train.recipe import BEST, CLASSIC, Recipe
from lenet_edge.train.saved_state import TrainingSettings
from tests.conftest import first_images

pytestmark = pytest.mark.costly

# It compiles in a fifth of the time of LeNet.
TINY = Architecture((Block(8, stride=3),), "flatten")


@pytest.fixture(scope="module")
def training() -> Dataset:
    return first_images(mnist.load("train"), 2000)


@pytest.fixture(scope="module")
def test_images(test_part: Dataset) -> Dataset:
    return first_images(test_part, 500)


def short(
    recipe: Recipe = CLASSIC,
    seed: int = 1,
    network: Architecture | Literal["lenet"] = TINY,
    **changes: Any,
) -> TrainingSettings:
    recipe = dataclasses.replace(recipe, **{"epochs": 1, **changes})
    return TrainingSettings(recipe, seed, network=network)


def weights(model: Any) -> npt.NDArray[np.float32]:
    return np.concatenate([array.ravel() for array in model.get_weights()])


def test_the_network_has_the_published_shape() -> None:
    model = build_lenet()
    assert model.count_params() == 60_074
    assert (model.input_shape, model.output_shape) == ((None, 28, 28, 1), (None, 10))
    assert build_lenet(3, (32, 20, 3)).output_shape == (None, 3)


def test_a_seed_gives_the_same_weights_bit_for_bit(training: Dataset, test_images: Dataset) -> None:
    first, again = (
        weights(loop.train(training, test_images, short(BEST, 7, "lenet", epochs=2))[0])
        for _ in range(2)
    )
    assert first.tobytes() == again.tobytes()
    tiny, other_seed = (
        weights(loop.train(training, test_images, short(seed=seed))[0]) for seed in (7, 8)
    )
    assert not np.allclose(tiny, other_seed, atol=1e-3)


def test_training_learns_and_reports_its_progress(training: Dataset, test_images: Dataset) -> None:
    reported: list[loop.TrainingProgress] = []
    settings = short(epochs=3, batch_size=16)
    model, history = loop.train(training, test_images, settings, on_progress=reported.append)
    steps = 2000 // 16
    accuracies = [p.accuracy for p in reported if p.accuracy is not None]
    assert {p.steps_per_epoch for p in reported} == {steps}
    assert [p.epoch for p in reported if p.accuracy is not None] == [1, 2, 3]
    assert history.epochs[-1]["loss"] < history.epochs[0]["loss"] / 2
    assert accuracies[-1] == history.test_accuracy == loop.accuracy(model, test_images) > 0.8
    assert [p.step for p in reported if p.accuracy is None] == [100, 125] * 3
    assert [epoch["losses"] for epoch in history.epochs] == [[p.loss] for p in reported[::3]]


def test_labels_out_of_range_are_an_error(training: Dataset, test_images: Dataset) -> None:
    for wrong in (10, -1):
        labels = training.labels.copy()
        labels[5] = wrong
        with pytest.raises(DataError, match=rf"are .*{wrong}.*; they must lie in 0\.\.9"):
            loop.train(dataclasses.replace(training, labels=labels), test_images, short())


def test_different_numbers_of_images_and_labels_are_an_error(
    training: Dataset, test_images: Dataset
) -> None:
    fewer = dataclasses.replace(training, labels=training.labels[:-1])
    with pytest.raises(DataError, match="2000 images but 1999 labels"):
        loop.train(fewer, test_images, short())


def test_an_empty_data_set_is_an_error(training: Dataset, test_images: Dataset) -> None:
    with pytest.raises(DataError, match="no images in mnist-train"):
        loop.train(first_images(training, 0), test_images, short())


def test_a_loss_that_is_not_finite_is_an_error(training: Dataset, test_images: Dataset) -> None:
    with pytest.raises(LenetEdgeError, match=r"loss became (nan|inf) in epoch \d+.*learning-rate"):
        loop.train(training, test_images, short(epochs=3, learning_rate=1e30))


def test_the_checkpoint_predicts_as_the_model(
    training: Dataset, test_images: Dataset, tmp_path: Path
) -> None:
    import tensorflow as tf

    model, _ = loop.train(first_images(training, 200), test_images, short())
    artifact = loop.save_checkpoint(model, tmp_path / "mine.keras", training.class_names)
    assert load_artifact(artifact.path) == artifact
    assert artifact.labels == training.class_names
    loaded = tf.keras.models.load_model(artifact.path)
    np.testing.assert_array_equal(
        loop.predict_logits(loaded, test_images), loop.predict_logits(model, test_images)
    )
