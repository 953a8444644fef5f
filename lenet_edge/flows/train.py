"""Train a recipe on a data set, under the lock of the checkpoint's folder."""

from __future__ import annotations

import base64
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.artifacts.file_check import check_format, check_path_encoding
from lenet_edge.data.summary import DataSummary
from lenet_edge.errors import UsageError
from lenet_edge.flows.console import Console
from lenet_edge.flows.mlflow_log import check_mlflow, log_seeds, log_training
from lenet_edge.networks import LENET, SUMMARIES
from lenet_edge.support.html_table import html_table
from lenet_edge.train.recipe import RECIPES, choose_recipe
from lenet_edge.train.saved_state import (
    CURVE_FILE,
    STATE_FILE,
    History,
    TrainingSettings,
    training_folder,
)

if TYPE_CHECKING:
    from lenet_edge.data.dataset import Dataset
    from lenet_edge.flows.seeds import SeedSummary
    from lenet_edge.train.distribution import Replicas


@dataclass(frozen=True, repr=False)
class TrainingResult:
    """A trained checkpoint and the history of its training.

    `num_test_images` is the size of the test set that `history.test_accuracy` is of. `data` is the
    summary of the data set. `seeds` are the accuracies of all seeds, if there are several.
    """

    artifact: Artifact
    history: History
    num_test_images: int
    data: DataSummary
    seeds: SeedSummary | None = None

    @property
    def test_accuracy(self) -> float:
        """The fraction of the test images that the checkpoint classifies correctly."""
        return self.history.test_accuracy or 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the result and the settings as JSON values."""
        return {
            "checkpoint": str(self.artifact.path),
            "size_bytes": self.artifact.size_bytes,
            "test_accuracy": self.test_accuracy,
            "data": self.data.to_json(),
            "recipe": dataclasses.asdict(self.history.settings.recipe),
            "network": dataclasses.asdict(self.history.settings)["network"],
            "seed": self.history.settings.seed,
            "teacher_sha256": self.history.settings.teacher_sha256 or None,
            "seeds": self.seeds and self.seeds.to_json(),
            "quantize": self.history.settings.quantize or None,
        }

    def __repr__(self) -> str:
        return (
            f"TrainingResult({self.artifact.name!r}, {self.test_accuracy:.2%} of"
            f" {self.num_test_images:,} test images right)"
        )

    def _repr_html_(self) -> str:
        rows = [
            {
                "epoch": str(epoch["epoch"]),
                "loss": f"{epoch['loss']:.4f}",
                "accuracy %": f"{100 * epoch['accuracy']:.2f}",
                "seconds": f"{epoch['seconds']:.1f}",
            }
            for epoch in self.history.epochs
        ]
        return html_table(rows, repr(self)) + self._curve_html()

    def _curve_html(self) -> str:
        """Return the training curve, if matplotlib was there to draw it."""
        try:
            picture = (training_folder(self.artifact.path) / CURVE_FILE).read_bytes()
        except OSError:
            return ""
        return f'<img src="data:image/png;base64,{base64.b64encode(picture).decode()}">'


def train(
    output: Path,
    console: Console,
    recipe: str = "quick",
    epochs: int | None = None,
    seed: int = 1,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    dataset: str = "mnist",
    data_dir: Path | None = None,
    strategy: str | None = None,
    resume: bool = False,
    network: str = LENET,
    teacher: Path | None = None,
    seeds: int = 1,
    mlflow: Path | None = None,
    quantize: str | None = None,
) -> TrainingResult | None:
    """Train a network and write its checkpoint; see `flows.recorded_training.train`.

    Args:
        output: the checkpoint, a .keras file.
        console: the display.
        recipe: "quick", "best" or "classic".
        epochs: the number of epochs; None means the recipe's, adapted to few images.
        seed: the seed of every random choice.
        batch_size: the number of images in a batch; None means the recipe's, adapted likewise.
        learning_rate: the learning rate, or its peak; None means the recipe's.
        dataset: see `datasets.load`.
        data_dir: see `datasets.load`.
        strategy: "one", "mirrored" or "multi-worker"; None means this process alone.
        resume: continue a training that was interrupted.
        network: the name of a network, see `networks.SUMMARIES`.
        teacher: a Keras classifier to distil; None means none.
        seeds: the number of trainings, with the seeds from `seed` on; see `flows.seeds`.
        mlflow: the folder of an MLflow store that gets the trainings; None means none.
        quantize: "int8" or "int4" for quantization-aware training; None for float.

    Returns:
        The checkpoint and its history; None in a worker that is not the first, which writes
        nothing.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; its text says if the training can be resumed.
        LenetEdgeError: the training failed, or another one is unfinished.
        ModuleNotFoundError: TensorFlow is not installed.
    """
    if output.suffix != ".keras":
        raise UsageError(f"--output {output} must end in .keras")
    check_path_encoding(output)
    if recipe not in RECIPES:
        raise UsageError(f"there is no recipe {recipe!r}; choose from {', '.join(RECIPES)}")
    if network not in SUMMARIES:
        raise UsageError(f"there is no network {network!r}; choose from {', '.join(SUMMARIES)}")
    if strategy and (teacher or seeds > 1):
        raise UsageError("--teacher and --seeds train in one process; leave --strategy out")
    if teacher and check_format(teacher) != "keras":
        raise UsageError(f"the teacher {teacher} is not a Keras model; give a .keras or .h5 file")
    if mlflow:
        check_mlflow(mlflow)
    from lenet_edge.flows import datasets

    # Before TensorFlow, which takes seconds to load: the data may have faults.
    training, test = datasets.load_and_describe(console, dataset, data_dir)
    chosen, adaptation = choose_recipe(recipe, len(training), epochs, batch_size, learning_rate)
    if adaptation:
        console.note(adaptation)
    settings = TrainingSettings(chosen, seed, network=network, quantize=quantize or "")
    console.note("Loading TensorFlow ...")
    from lenet_edge.flows.recorded_training import assist
    from lenet_edge.train.distribution import MULTI_WORKER, make_replicas

    if strategy == MULTI_WORKER:
        console.note("Waiting for all workers of TF_CONFIG; Ctrl-C gives up")
    replicas = make_replicas(strategy) if strategy else None
    if replicas and not replicas.is_chief:
        with console.training_progress() as report:
            assist(training, test, settings, report, replicas)
        return None
    # Not earlier: workers that write nothing may use the same folder.
    with console.alone_in(output.parent):
        result = _train(output, console, training, test, settings, resume, replicas, teacher, seeds)
    if mlflow and result.seeds:
        log_seeds(mlflow, output, result.seeds)
    elif mlflow:
        log_training(mlflow, output, result.history)
    return result


def _train(
    output: Path,
    console: Console,
    training: Dataset,
    test: Dataset,
    settings: TrainingSettings,
    resume: bool,
    replicas: Replicas | None,
    teacher: Path | None,
    seeds: int,
) -> TrainingResult:
    from lenet_edge.flows.recorded_training import train
    from lenet_edge.flows.seeds import can_resume, train_seeds
    from lenet_edge.flows.teachers import load_teacher

    distilled = load_teacher(teacher, training, console) if teacher else None
    settings = dataclasses.replace(settings, teacher_sha256=distilled.sha256 if distilled else "")
    result = summary = None
    try:
        with console.training_progress() as report:
            if seeds > 1:
                artifact, history, summary = train_seeds(
                    output, training, test, settings, seeds, resume, report, distilled
                )
            else:
                artifact, history = train(
                    output, training, test, settings, resume, report, replicas, distilled
                )
            data = DataSummary.of(training, test)
            result = TrainingResult(artifact, history, len(test), data, summary)
    except KeyboardInterrupt:
        if result is None:  # else Ctrl-C came after the end
            has_state = (training_folder(output) / STATE_FILE).exists()
            raise interruption(can_resume(output) if seeds > 1 else has_state) from None
    return result


def interruption(can_resume: bool) -> KeyboardInterrupt:
    """Return the exception after Ctrl-C, whose text says if the training can be resumed."""
    return KeyboardInterrupt(
        "Stopped; go on with the same command and --resume"
        if can_resume
        else "Stopped before the first epoch was done; nothing was kept"
    )
