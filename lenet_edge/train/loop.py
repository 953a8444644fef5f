"""The training loop, written out: a gradient tape, a loss, an optimizer, and nothing hidden."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_edge import model as lenet  # imported first: it quiets TensorFlow
from lenet_edge.artifact import Artifact, TensorSpec, atomic_write, describe, write_manifest
from lenet_edge.data.dataset import Dataset, to_input
from lenet_edge.errors import DataError, LenetEdgeError

import numpy as np  # isort: skip
import tensorflow as tf  # isort: skip

LOSS_EVERY = 100  # steps
SHUFFLE_BUFFER = 10_000  # images


@dataclass(frozen=True)
class Progress:
    """Where training is: `loss` after a step; `accuracy`, a fraction, after an epoch."""

    epoch: int
    step: int
    steps_per_epoch: int
    loss: float | None = None
    accuracy: float | None = None


def train(
    training: Dataset,
    test: Dataset,
    epochs: int = 10,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    seed: int = 1,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Any:
    """Train a LeNet and return the Keras model.

    Args:
        training: what it learns from.
        test: what its accuracy is reported on after each epoch; nothing is chosen by it.
        epochs: passes over the training images.
        batch_size: images in one step.
        learning_rate: Adam's.
        seed: two runs with the same seed shuffle and start alike.
        report: called every 100 steps and after each epoch.

    Raises:
        DataError: the images and labels do not fit each other or the network.
        LenetEdgeError: the loss stopped being a number.
    """
    _check(training)
    tf.keras.utils.set_random_seed(seed)
    model = lenet.build_lenet(len(training.class_names), training.image_shape)
    loss_function = tf.keras.losses.CategoricalCrossentropy(from_logits=True)
    optimizer = tf.keras.optimizers.Adam(learning_rate)

    @tf.function  # type: ignore[untyped-decorator]
    def step(images: Any, one_hot_labels: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = loss_function(one_hot_labels, logits)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    one_hot = tf.one_hot(training.labels, len(training.class_names))
    batches = (
        tf.data.Dataset.from_tensor_slices((to_input(training.images), one_hot))
        .shuffle(SHUFFLE_BUFFER, seed=seed)
        .batch(batch_size)
        .prefetch(2)
    )
    for epoch in range(1, epochs + 1):
        for number, (images, one_hot_labels) in enumerate(batches, start=1):
            loss = step(images, one_hot_labels)
            if number % LOSS_EVERY == 0 or number == len(batches):
                report(Progress(epoch, number, len(batches), loss=_finite(loss, epoch, number)))
        report(Progress(epoch, len(batches), len(batches), accuracy=accuracy(model, test)))
    return model


def _finite(loss: Any, epoch: int, step: int) -> float:
    value = float(loss)
    if not np.isfinite(value):
        raise LenetEdgeError(
            f"the loss became {value} in epoch {epoch}, step {step}; try a smaller --learning-rate"
        )
    return value


def _check(data: Dataset) -> None:
    if len(data.images) != len(data.labels):
        raise DataError(f"{len(data.images)} images but {len(data.labels)} labels")
    if len(data) == 0:
        raise DataError("there are no training images")
    worst = int(data.labels.max()), int(data.labels.min())
    if worst[0] >= len(data.class_names) or worst[1] < 0:
        raise DataError(
            f"labels must lie in 0..{len(data.class_names) - 1}; found {worst[1]}..{worst[0]}"
        )


def predict_logits(model: Any, data: Dataset, batch_size: int = 1000) -> np.ndarray[Any, Any]:
    """Return the model's logits for every image: float32 of shape (N, classes)."""
    images = to_input(data.images)
    starts = range(0, len(images), batch_size)
    return np.concatenate([model(images[i : i + batch_size], training=False) for i in starts])


def accuracy(model: Any, data: Dataset) -> float:
    """Return the fraction of `data` that the model classifies right."""
    return float(np.mean(predict_logits(model, data).argmax(axis=1) == data.labels))


def save(model: Any, path: Path, class_names: tuple[str, ...]) -> Artifact:
    """Write the checkpoint and its manifest, and return its Artifact."""
    with atomic_write(path) as temporary:
        model.save(temporary)
    artifact = describe(
        path,
        precision="float32",
        batch_size=None,
        inputs=(TensorSpec("image", tuple(model.inputs[0].shape), "float32"),),
        outputs=(TensorSpec("logits", tuple(model.outputs[0].shape), "float32"),),
        parent_sha256=None,
        converter=f"keras {tf.keras.__version__}",
        calibration=None,
        labels=class_names,
    )
    write_manifest(artifact)
    return artifact
