"""Training of the float model in the report, from the history beside the result file."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

from lenet_edge.report.page_tables import PageSection, PageTable
from lenet_edge.results.formatting import percent, plural

_HISTORY = "history.json"
_FOLDER = ".training"
_MAX_BYTES = 2**26


@dataclass(frozen=True)
class TrainingEpoch:
    """Figures of one epoch; the accuracy is a fraction of the monitored images."""

    number: int
    loss: float
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class TrainingCurve:
    """Loss and accuracy of a training over its epochs.

    Attributes:
        checkpoint: name of the trained file.
        epochs: the epochs in order; empty if the history cannot be read.
        notes: sentences about the training.
    """

    checkpoint: str
    epochs: tuple[TrainingEpoch, ...]
    notes: tuple[str, ...]


def read_training(folder: Path, checkpoint: str) -> TrainingCurve | None:
    """Return the training of a checkpoint whose history is in a folder; None without a history.

    A history that cannot be read gives a curve without epochs, and a note.
    """
    stem = Path(checkpoint).stem
    path = folder / f"{stem}{_FOLDER}" / _HISTORY
    # Path.is_file raises an error if the name is too long or the folder is not readable.
    if not stem or not os.path.isfile(path):
        return None
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("it is too large")
        facts = json.loads(path.read_text(encoding="utf-8"))
        epochs = tuple(
            TrainingEpoch(
                int(epoch["epoch"]), float(epoch["loss"]), float(epoch["accuracy"]),
                float(epoch["seconds"]),
            )
            for epoch in facts["epochs"]
        )  # fmt: skip
        figures = [(epoch.loss, epoch.accuracy, epoch.seconds) for epoch in epochs]
        if not all(math.isfinite(value) for each in figures for value in each):
            raise ValueError("a figure is not finite")
        recipe, dataset = facts["settings"]["recipe"]["name"], facts["dataset"]
        accuracy = facts.get("test_accuracy")
        seconds = sum(epoch.seconds for epoch in epochs)
        end = "" if accuracy is None else f", and {percent(float(accuracy))} % of the test images"
        note = (
            f"Recipe {recipe} on {dataset}: {plural(len(epochs), 'epoch')} in {seconds:,.0f} s"
            f"{end}. Loss: the mean of the epoch. Error: of the monitored images."
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as problem:
        return TrainingCurve(checkpoint, (), (f"{path.name} cannot be read: {problem!r}.",))
    return TrainingCurve(checkpoint, epochs, (note,))


def training_section(curve: TrainingCurve) -> PageSection:
    """Return the epochs of a training."""
    rows = [
        (
            str(epoch.number),
            f"{epoch.loss:.4f}",
            percent(1 - epoch.accuracy),
            f"{epoch.seconds:,.1f}",
        )
        for epoch in curve.epochs
    ]
    columns = ("epoch", "loss", "error %", "seconds")
    table = PageTable(columns, tuple(rows), 1) if rows else None
    title = f"Training of {curve.checkpoint}"
    return PageSection("training", title, curve.notes, table, plural(len(rows), "epoch"))
