"""A training with its output files: checkpoint, history, TensorBoard events, training curve."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.data.dataset import Dataset
from lenet_edge.data.handwriting import preprocessing_after_training
from lenet_edge.errors import MissingPackageError
from lenet_edge.report.plots import plot_training
from lenet_edge.support.files import remove
from lenet_edge.train import loop
from lenet_edge.train.distribution import Replicas, report_lost_workers
from lenet_edge.train.saved_state import (
    CURVE_FILE,
    STATE_FILE,
    History,
    TrainingSettings,
    training_folder,
)
from lenet_edge.train.teacher import Teacher

import tensorflow as tf  # isort: skip


def train(
    checkpoint: Path,
    training: Dataset,
    test: Dataset,
    settings: TrainingSettings,
    resume: bool = False,
    report: Callable[[loop.TrainingProgress], None] = lambda progress: None,
    replicas: Replicas | None = None,
    teacher: Teacher | None = None,
    start: loop.StartingModel | None = None,
) -> tuple[Artifact, History]:
    """Train a network, and write the checkpoint and the record of the training.

    The folder ``NAME.training`` beside the checkpoint receives history.json, event files for
    TensorBoard and curve.png. Until the training is done it also holds the state to resume from.
    With several workers, the chief calls this function and the others call `assist`.

    Args:
        checkpoint: the .keras file to write.
        training: the training images.
        test: the test images.
        settings: the network, the recipe and the seed.
        resume: continue from the state in the folder.
        report: called with the progress.
        replicas: the replicas of tf.distribute; None for this process alone.
        teacher: see `loop.train`.
        start: the model to train; None builds the network of the settings.

    Returns:
        The checkpoint and the history of the training.

    Raises:
        LenetEdgeError: `loop.train` fails, or a file cannot be written.
    """
    folder = training_folder(checkpoint)
    if not resume and not (folder / STATE_FILE).exists():
        for old_events in folder.glob("events.out.tfevents.*"):
            old_events.unlink()
    events = _EventFile(folder)

    def write_and_report(progress: loop.TrainingProgress) -> None:
        events.write(progress)
        report(progress)

    with report_lost_workers() if replicas else contextlib.nullcontext():
        model, history = loop.train(
            training, test, settings, folder, resume, write_and_report, replicas, start, teacher
        )
    rule = start.rule if start else preprocessing_after_training(training)
    names, ranges = training.class_names, history.ranges
    artifact = loop.save_checkpoint(model, checkpoint, names, rule, ranges)
    with contextlib.suppress(MissingPackageError):
        title = f"recipe {settings.recipe.name}: {history.test_accuracy:.2%} of {test.name}"
        plot_training(history.epochs, title, folder / CURVE_FILE)
    remove(folder / STATE_FILE)
    return artifact, history


def assist(
    training: Dataset,
    test: Dataset,
    settings: TrainingSettings,
    report: Callable[[loop.TrainingProgress], None],
    replicas: Replicas,
) -> None:
    """Take part in a training as a worker that is not the chief.

    The chief writes all files, and sends the state if it resumes a training.

    Raises:
        LenetEdgeError: `loop.train` fails, or another worker stopped.
    """
    with report_lost_workers():
        loop.train(training, test, settings, on_progress=report, replicas=replicas)


class _EventFile:
    """An event file for TensorBoard, opened at the first event."""

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
