"""Trainings in a row that differ in their seed alone, with their spread and the median model."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lenet_edge.artifacts.artifact import Artifact, announce, load_artifact, write_manifest
from lenet_edge.data.dataset import Dataset
from lenet_edge.errors import LenetEdgeError
from lenet_edge.flows import recorded_training
from lenet_edge.support.files import atomic_write
from lenet_edge.train.loop import TrainingProgress
from lenet_edge.train.saved_state import (
    STATE_FILE,
    History,
    TrainingSettings,
    finished_training,
    training_folder,
)
from lenet_edge.train.teacher import Teacher

SUMMARY = "seeds.json"


@dataclass(frozen=True)
class SeedSummary:
    """The test accuracies of trainings, by their seeds in the order of training."""

    accuracies: dict[int, float]

    @property
    def median_seed(self) -> int:
        """The seed with the median accuracy; of an even number, the lower of the two."""
        order = sorted(self.accuracies, key=lambda seed: (self.accuracies[seed], seed))
        return order[(len(order) - 1) // 2]

    def to_json(self) -> dict[str, Any]:
        """Return the accuracies, their mean and spread, and the seed of the median."""
        values = list(self.accuracies.values())
        return {
            "test_accuracies": {str(seed): value for seed, value in self.accuracies.items()},
            "mean": statistics.mean(values),
            "stdev": statistics.stdev(values) if len(values) > 1 else None,
            "min": min(values),
            "max": max(values),
            "median_seed": self.median_seed,
        }

    def __str__(self) -> str:
        facts = self.to_json()
        spread = "" if facts["stdev"] is None else f" ± {facts['stdev']:.2%}"
        each = ", ".join(f"{seed}: {value:.2%}" for seed, value in self.accuracies.items())
        return (
            f"mean {facts['mean']:.2%}{spread}, {facts['min']:.2%} to {facts['max']:.2%}"
            f" (seeds {each}); the median is seed {self.median_seed}"
        )


def seeds_folder(checkpoint: Path) -> Path:
    """Return the folder of the models of all seeds, beside the checkpoint."""
    return checkpoint.with_suffix(".seeds")


def seed_path(checkpoint: Path, seed: int) -> Path:
    """Return the path of the model of one seed."""
    return seeds_folder(checkpoint) / f"seed-{seed}.keras"


def train_seeds(
    checkpoint: Path,
    training: Dataset,
    test: Dataset,
    settings: TrainingSettings,
    count: int,
    resume: bool,
    report: Callable[[TrainingProgress], None],
    teacher: Teacher | None,
) -> tuple[Artifact, History, SeedSummary]:
    """Train with `count` seeds, from that of the settings on; the median becomes the checkpoint.

    The folder ``NAME.seeds`` beside the checkpoint keeps the model and the record of each seed. The
    models of earlier trainings stay until the first epoch is done.

    Args:
        checkpoint: the .keras file to write.
        training: the training images.
        test: the test images.
        settings: the network, the recipe and the first seed.
        count: the number of seeds.
        resume: continue trainings that were interrupted, or add seeds to those that are done.
        report: called with the progress over all seeds.
        teacher: see `loop.train`.

    Returns:
        The checkpoint, its history, and the accuracies of all seeds.

    Raises:
        LenetEdgeError: a training fails, or `resume` does not fit the folder.
    """
    folder = seeds_folder(checkpoint)
    seeds = range(settings.seed, settings.seed + count)
    paths = {seed: seed_path(checkpoint, seed) for seed in seeds}
    done = {seed: finished_training(path) for seed, path in paths.items()} if resume else {}
    _check_resume(checkpoint, resume, None not in done.values())
    expected = settings.on(training)
    artifacts: dict[int, Artifact] = {}
    histories: dict[int, History] = {}
    for seed, history in done.items():
        if history is None:
            continue
        for name, old, new in history.settings.differences(replace(expected, seed=seed)):
            raise LenetEdgeError(
                f"{paths[seed]} was trained with {name} {old}, not {new}; resume with the same"
                f" settings, or delete {folder}"
            )
        artifacts[seed], histories[seed] = load_artifact(paths[seed]), history
    for number, (seed, path) in enumerate(paths.items()):
        if seed not in histories:
            artifacts[seed], histories[seed] = recorded_training.train(
                path,
                training,
                test,
                replace(settings, seed=seed),
                (training_folder(path) / STATE_FILE).exists(),
                _over_all_seeds(report, number, count, path, resume),
                teacher=teacher,
            )
    summary = SeedSummary({seed: record.test_accuracy or 0 for seed, record in histories.items()})
    median = summary.median_seed
    artifact = _copy(artifacts[median], checkpoint)
    with atomic_write(folder / SUMMARY) as temporary:
        temporary.write_text(json.dumps(summary.to_json(), indent=1) + "\n")
    return artifact, histories[median], summary


def can_resume(checkpoint: Path) -> bool:
    """Return True if the folder of a checkpoint's seeds holds unfinished trainings."""
    folder = seeds_folder(checkpoint)
    return folder.exists() and not (folder / SUMMARY).exists()


def _check_resume(checkpoint: Path, resume: bool, are_all_done: bool) -> None:
    """Check that `resume` fits the folder of the seeds."""
    folder, is_unfinished = seeds_folder(checkpoint), can_resume(checkpoint)
    if resume and not is_unfinished and (are_all_done or not folder.exists()):
        raise LenetEdgeError(
            f"there are no unfinished trainings in {folder}; start them without --resume"
        )
    if is_unfinished and not resume:
        raise LenetEdgeError(
            f"{folder} holds unfinished trainings; continue them with --resume, or delete it"
        )


def _delete_old(folder: Path, current: Path) -> None:
    """Delete the files of earlier trainings, but not the record of the current one."""
    for path in folder.glob("seed-*"):
        if not path.is_dir():
            path.unlink()
        elif path != training_folder(current):
            shutil.rmtree(path)


def _over_all_seeds(
    report: Callable[[TrainingProgress], None], number: int, count: int, path: Path, resume: bool
) -> Callable[[TrainingProgress], None]:
    """Return the function that reports the progress of one seed.

    After its first epoch, a training can be resumed. Only then are earlier results deleted.
    """

    def report_part(progress: TrainingProgress) -> None:
        if progress.accuracy is not None:
            (path.parent / SUMMARY).unlink(missing_ok=True)
            if number == 0 and not resume:
                _delete_old(path.parent, path)
        epochs = progress.epochs
        done = number * epochs
        report(replace(progress, epoch=done + progress.epoch, epochs=count * epochs))

    return report_part


def _copy(artifact: Artifact, checkpoint: Path) -> Artifact:
    """Copy a checkpoint with its manifest and the record of its training."""
    source, target = training_folder(artifact.path), training_folder(checkpoint)
    target.mkdir(parents=True, exist_ok=True)
    for old_events in target.glob("events.out.tfevents.*"):
        old_events.unlink()
    for file in source.iterdir():
        with atomic_write(target / file.name) as temporary:
            shutil.copyfile(file, temporary)
    copied = replace(artifact, path=checkpoint)
    with atomic_write(checkpoint) as temporary:
        shutil.copyfile(artifact.path, temporary)
        announce(copied)
    write_manifest(copied)
    return copied
