"""A training with all that stays of it: checkpoint, history, TensorBoard events, a picture."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.data.dataset import Dataset
from lenet_edge.errors import MissingPackageError
from lenet_edge.report.plots import training_curve
from lenet_edge.support.files import remove
from lenet_edge.train import loop
from lenet_edge.train.distribution import Replicas, report_lost_workers
from lenet_edge.train.recipe import DEFAULT, Recipe
from lenet_edge.train.saved_state import STATE_FILE, History, training_folder

import tensorflow as tf  # isort: skip

CURVE = "curve.png"


def train(
    checkpoint: Path,
    training: Dataset,
    test: Dataset,
    recipe: Recipe = DEFAULT,
    seed: int = 1,
    resume: bool = False,
    report: Callable[[loop.TrainingProgress], None] = lambda progress: None,
    replicas: Replicas | None = None,
) -> tuple[Artifact, History]:
    """Train a LeNet, write it to `checkpoint`, and keep how it went in the folder beside it.

    The folder, ``NAME.training``, holds history.json, TensorBoard's event files, curve.png and,
    until the training is done, the state to resume from. Of several workers it is the chief that
    calls this; the others `assist`.

    Raises:
        LenetEdgeError: what `loop.train` raises, or a file cannot be written.
    """
    folder = training_folder(checkpoint)
    if not resume and not (folder / STATE_FILE).exists():
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
    events = _Events(folder)

    def both(progress: loop.TrainingProgress) -> None:
        events.write(progress)
        report(progress)

    with report_lost_workers() if replicas else contextlib.nullcontext():
        model, history = loop.train(training, test, recipe, seed, folder, resume, both, replicas)
    artifact = loop.save_checkpoint(model, checkpoint, training.class_names)
    with contextlib.suppress(MissingPackageError):
        title = f"recipe {recipe.name}: {history.test_accuracy:.2%} of {test.name}"
        training_curve(history.epochs, title, folder / CURVE)
    remove(folder / STATE_FILE)
    return artifact, history


def assist(
    training: Dataset,
    test: Dataset,
    recipe: Recipe,
    seed: int,
    report: Callable[[loop.TrainingProgress], None],
    replicas: Replicas,
) -> None:
    """Take part in a training whose chief keeps the files, and learns of a state to resume.

    Raises:
        LenetEdgeError: what `loop.train` raises, or another worker went away.
    """
    with report_lost_workers():
        loop.train(training, test, recipe, seed, on_progress=report, replicas=replicas)


class _Events:
    """TensorBoard's event file, opened at the first event."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: tf.summary.SummaryWriter | None = None

    def write(self, progress: loop.TrainingProgress) -> None:
        self._writer = self._writer or tf.summary.create_file_writer(str(self._folder))
        step = (progress.epoch - 1) * progress.steps_per_epoch + progress.step
        with self._writer.as_default(step=step):
            if progress.accuracy is None:
                tf.summary.scalar("loss", progress.loss)
                tf.summary.scalar("learning rate", progress.learning_rate)
            else:
                tf.summary.scalar(f"accuracy on {progress.watched}", progress.accuracy)
                self._writer.flush()
