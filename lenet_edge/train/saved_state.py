"""Saved state of a training: its settings, history and variables, from which it can resume."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from lenet_edge.artifacts.trained_ranges import TrainedRanges
from lenet_edge.data.dataset import Dataset
from lenet_edge.errors import LenetEdgeError
from lenet_edge.networks import LENET, Architecture, Block, Network
from lenet_edge.support import npz
from lenet_edge.support.files import atomic_write
from lenet_edge.train.recipe import DEFAULT, Augmentation, Recipe

LOSS_EVERY = 100  # steps between two losses in the history, and steps in one compiled call
HISTORY_FILE = "history.json"
STATE_FILE = "state.npz"
CURVE_FILE = "curve.png"


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that determines the final weights of a training on one machine.

    `data_sha256` is the digest of the training images; `loop.train` sets it.
    """

    recipe: Recipe = DEFAULT
    seed: int = 1
    data_sha256: str = ""
    network: Network = LENET
    quantize: str = ""  # "int8" or "int4" for quantization-aware training; "" for float
    start_sha256: str = ""  # of the checkpoint that `finetune` starts from
    preprocessing: str = ""  # of the images of that checkpoint, in words; "" in older trainings
    teacher_sha256: str = ""  # of the model that is distilled, if there is one

    @property
    def first_quantized_epoch(self) -> int:
        """The epoch from which the weights and the activations are rounded.

        A network learns faster without rounding, and needs a fifth of the epochs to adapt to it.
        """
        if self.start_sha256:
            return 1
        return self.recipe.epochs - max(1, round(self.recipe.epochs / 5)) + 1

    def on(self, training: Dataset) -> TrainingSettings:
        """Return these settings for the images and labels of `training`."""
        data = hashlib.sha256(training.images.tobytes())
        data.update(training.labels.tobytes())
        return dataclasses.replace(self, data_sha256=data.hexdigest())

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainingSettings:
        """Create settings from their JSON values; those of an older training may lack some."""
        recipe = dict(values["recipe"])
        if augmentation := recipe["augmentation"]:
            recipe["augmentation"] = Augmentation(**augmentation)
        network = values.get("network", LENET)
        if not isinstance(network, str):
            blocks = tuple(Block(**block) for block in network["blocks"])
            dense = tuple(network["dense"])
            network = Architecture(**{**network, "blocks": blocks, "dense": dense})
        return cls(**{**values, "recipe": Recipe(**recipe), "network": network})

    def differences(self, other: TrainingSettings) -> list[tuple[str, Any, Any]]:
        """List name, own value and other value of each setting that differs."""
        own_values, other_values = (
            {**vars(settings.recipe), **vars(settings)} for settings in (self, other)
        )
        return [
            (name.replace("_", " "), value, other_values[name])
            for name, value in own_values.items()
            if value != other_values[name]
            and name != "recipe"
            and not (name == "preprocessing" and not value)
        ]


@dataclass
class History:
    """Record of a training, epoch by epoch.

    Each element of `epochs` has these keys: "epoch" (from 1), "losses" (after each 100 steps),
    "loss" (the mean of all steps), "accuracy" (a fraction), "learning_rate" and "seconds".
    """

    settings: TrainingSettings
    dataset: str
    epochs: list[dict[str, Any]] = field(default_factory=list)
    test_accuracy: float | None = None
    ranges: TrainedRanges | None = None  # of a quantization-aware training, at its end

    def add(self, losses: list[float], accuracy: float, learning_rate: float, s: float) -> None:
        """Add an epoch.

        Args:
            losses: the loss of each step.
            accuracy: the fraction of correct predictions after the epoch.
            learning_rate: the rate at the end of the epoch.
            s: the duration in seconds.
        """
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

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> History:
        """Create a history from its JSON values."""
        settings = TrainingSettings.from_json(values["settings"])
        ranges = values.get("ranges")
        ranges = ranges and TrainedRanges.from_json(json.dumps(ranges))
        return cls(**{**values, "settings": settings, "ranges": ranges})

    @classmethod
    def load(cls, folder: Path) -> History:
        """Read the history.json that `save` wrote.

        Raises:
            LenetEdgeError: the file is missing or damaged.
        """
        path = folder / HISTORY_FILE
        try:
            return cls.from_json(json.loads(path.read_bytes()))
        except FileNotFoundError:
            raise LenetEdgeError(f"{path} does not exist; train again") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise LenetEdgeError(f"{path} cannot be read ({error}); train again") from error

    def save(self, folder: Path) -> None:
        """Write history.json atomically."""
        with atomic_write(folder / HISTORY_FILE) as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")


@dataclass(frozen=True)
class TrainingState:
    """State of a training after a whole epoch.

    `arrays` are those of `loop.EpochRunner.variable_arrays`.
    """

    history: History
    arrays: tuple[npt.NDArray[Any], ...]

    @property
    def settings(self) -> TrainingSettings:
        """The settings that the training was started with."""
        return self.history.settings

    @property
    def epoch(self) -> int:
        """The number of completed epochs."""
        return len(self.history.epochs)

    def save(self, folder: Path) -> None:
        """Write state.npz atomically: if the process is killed, a complete state is on disk."""
        about = json.dumps(dataclasses.asdict(self.history))
        arrays = {f"arr_{i}": array for i, array in enumerate(self.arrays)}
        npz.write_arrays(folder / STATE_FILE, {**arrays, "about": about}, compress=False)

    @classmethod
    def load(cls, folder: Path) -> TrainingState:
        """Read the state.npz that `save` wrote.

        Raises:
            LenetEdgeError: the file is missing or damaged.
        """
        path = folder / STATE_FILE
        try:
            stored = npz.read_arrays(path)
            about = json.loads(str(stored["about"]))
            arrays = tuple(stored[f"arr_{i}"] for i in range(len(stored) - 1))
            return cls(History.from_json(about), arrays)
        except FileNotFoundError:
            raise LenetEdgeError(
                f"there is no unfinished training in {folder}; start one without --resume"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise LenetEdgeError(
                f"{path} cannot be read ({error}); delete it and start again without --resume"
            ) from error


def finished_training(checkpoint: Path) -> History | None:
    """Return the record of a training that is done; None if it has yet to start or to continue.

    The state is deleted last, after the checkpoint and the curve are written.

    Raises:
        LenetEdgeError: the record is damaged.
    """
    folder = training_folder(checkpoint)
    is_done = checkpoint.exists() and not (folder / STATE_FILE).exists()
    return History.load(folder) if is_done and (folder / HISTORY_FILE).exists() else None


def training_folder(checkpoint: Path) -> Path:
    """Return the folder for the history and the state of a training, beside its checkpoint.

    Its name is that of the checkpoint with the suffix ``.training``.
    """
    return checkpoint.with_suffix(".training")
