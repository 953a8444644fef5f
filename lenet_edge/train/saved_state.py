"""What a training that stops must leave behind, so that it can go on as if it never had."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from lenet_edge.data.dataset import Dataset
from lenet_edge.errors import LenetEdgeError
from lenet_edge.support import npz
from lenet_edge.support.files import atomic_write
from lenet_edge.train.recipe import Augmentation, Recipe

LOSS_EVERY = 100  # steps
HISTORY_FILE = "history.json"
STATE_FILE = "state.npz"


@dataclass(frozen=True)
class TrainingSettings:
    """What decides the weights that a training ends with, on one machine."""

    recipe: Recipe
    seed: int
    data_sha256: str

    @classmethod
    def of(cls, recipe: Recipe, seed: int, training: Dataset) -> TrainingSettings:
        """Return the settings of a training on these images."""
        data = hashlib.sha256(training.images.tobytes())
        data.update(training.labels.tobytes())
        return cls(recipe, seed, data.hexdigest())

    def differences(self, other: TrainingSettings) -> list[tuple[str, Any, Any]]:
        """Return name, own value and other value of each setting that differs."""
        mine, theirs = ({**vars(one.recipe), **vars(one)} for one in (self, other))
        return [
            (name.replace("_", " "), value, theirs[name])
            for name, value in mine.items()
            if value != theirs[name] and name != "recipe"
        ]


@dataclass
class History:
    """How a training went, epoch by epoch.

    `epochs` hold "epoch", "losses" (after each 100 steps), "loss" (mean), "accuracy" (a fraction),
    "learning_rate" and "seconds".
    """

    settings: TrainingSettings
    dataset: str
    epochs: list[dict[str, Any]] = field(default_factory=list)
    test_accuracy: float | None = None

    def add(self, losses: list[float], accuracy: float, learning_rate: float, s: float) -> None:
        """Add an epoch: the loss of each step, what came of it, and the seconds it took."""
        self.epochs.append(
            {
                "epoch": len(self.epochs) + 1,
                "losses": losses[LOSS_EVERY - 1 :: LOSS_EVERY],
                "loss": sum(losses) / len(losses),
                "accuracy": accuracy,
                "learning_rate": learning_rate,
                "seconds": round(s, 3),
            }
        )

    def save(self, folder: Path) -> None:
        """Write history.json, atomically."""
        with atomic_write(folder / HISTORY_FILE) as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")


@dataclass(frozen=True)
class TrainingState:
    """A training after a whole epoch: `arrays` are its weights, then its optimizer's variables."""

    history: History
    arrays: tuple[npt.NDArray[Any], ...]

    @property
    def settings(self) -> TrainingSettings:
        """The settings it was started with."""
        return self.history.settings

    @property
    def epoch(self) -> int:
        """How many epochs are done."""
        return len(self.history.epochs)

    def save(self, folder: Path) -> None:
        """Write state.npz, atomically: whenever the process ends, a whole state is on disk."""
        about = json.dumps(dataclasses.asdict(self.history))
        arrays = {f"arr_{i}": array for i, array in enumerate(self.arrays)}
        npz.write_arrays(folder / STATE_FILE, {**arrays, "about": about}, compress=False)

    @classmethod
    def load(cls, folder: Path) -> TrainingState:
        """Read what `save` wrote.

        Raises:
            LenetEdgeError: there is none, or it is damaged.
        """
        path = folder / STATE_FILE
        try:
            stored = npz.read_arrays(path)
            about = json.loads(str(stored["about"]))
            arrays = tuple(stored[f"arr_{i}"] for i in range(len(stored) - 1))
            settings = about.pop("settings")
            recipe = settings.pop("recipe")
            augmentation = recipe.pop("augmentation")
            recipe = Recipe(
                augmentation=Augmentation(**augmentation) if augmentation else None, **recipe
            )
            return cls(History(TrainingSettings(recipe=recipe, **settings), **about), arrays)
        except FileNotFoundError:
            raise LenetEdgeError(
                f"there is no unfinished training in {folder}; start one without --resume"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise LenetEdgeError(
                f"{path} cannot be read ({error}); delete it and start anew without --resume"
            ) from error


def training_folder(checkpoint: Path) -> Path:
    """Return the folder beside a checkpoint where its training is kept."""
    return checkpoint.with_suffix(".training")
