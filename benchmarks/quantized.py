"""Accuracy of int8 and int4 files, calibrated after training and trained with rounding.

Both files of a seed start from one float checkpoint. `export` calibrates the first (post-training
quantization, PTQ). `finetune` trains the second with rounding for a few epochs (quantization-aware
training, QAT). `train --quantize` would cost a whole training for each precision instead.

More epochs alone can change an accuracy. The float checkpoint is therefore also trained for the
same epochs without rounding, with the same settings ("tuned" below). Points are compared with the
checkpoint and with this tuned sibling.

The .tflite file runs with XNNPACK, whose rounding the training simulates. The C file is compared
with the trained network in fixed-point arithmetic too: all its integers should be the same.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.artifact import Artifact, load_artifact
from lenet_edge.artifacts.trained_ranges import TrainedRanges, read_ranges
from lenet_edge.data.dataset import Dataset
from lenet_edge.export import exporter
from lenet_edge.export.checkpoint import load_checkpoint
from lenet_edge.export.trained_integers import IntegerNetwork
from lenet_edge.fake_quantization import FakeQuantizedNetwork
from lenet_edge.flows import recorded_training
from lenet_edge.microcontrollers import footprint
from lenet_edge.microcontrollers.cores import CORES
from lenet_edge.runtimes import get_target
from lenet_edge.selection import Pair
from lenet_edge.support.files import atomic_write
from lenet_edge.train import loop
from lenet_edge.train.recipe import FINETUNE, QUICK, Recipe
from lenet_edge.train.saved_state import (
    STATE_FILE,
    TrainingSettings,
    finished_training,
    training_folder,
)
from lenet_edge.verify.expected import infer_in_worker

import tensorflow as tf  # isort: skip

NETWORKS = ("lenet", "hard")
_PRECISIONS = {"lenet": ("int8", "int4"), "hard": ("int8",)}
_TARGETS = {"tflite": "litert-xnnpack", "native": "native-cpu"}
_LARGEST_EXPONENT = 2  # of the factors that unbalance the channels of the hard network
_HARD_EPOCHS = 8
_TIMEOUT_S = 3600.0  # of 10,000 images, on a machine that computes other things too

Logits = npt.NDArray[np.float32]
Report = Callable[[loop.TrainingProgress], None]


@dataclass(frozen=True)
class Plan:
    """Data and recipes of a measurement.

    Attributes:
        training: the images to train on.
        test: the images that judge the files.
        recipe: the recipe of the float training.
        finetune: the recipe of the training with rounding.
    """

    training: Dataset
    test: Dataset
    recipe: Recipe
    finetune: Recipe

    @classmethod
    def of(cls, network: str, training: Dataset, test: Dataset) -> "Plan":
        """Return the plan for a network: the recipes `quick` and `finetune`."""
        recipe = QUICK
        if network == "hard":
            recipe = dataclasses.replace(QUICK, epochs=_HARD_EPOCHS)
        return cls(training, test, recipe, FINETUNE)

    def pilot(self) -> "Plan":
        """Return a small plan that leaves the test images alone: held-out images judge."""
        learning, held_out = loop.split_validation(self.training, 5000)
        assert held_out
        return Plan(
            learning.subset(np.arange(10_000)),
            held_out,
            dataclasses.replace(self.recipe, epochs=2),
            dataclasses.replace(self.finetune, epochs=2),
        )

    def facts(self) -> dict[str, Any]:
        """Return the settings, for the record."""
        return {
            "recipe": dataclasses.asdict(self.recipe),
            "finetune": dataclasses.asdict(self.finetune),
            "training_images": len(self.training),
            "judged_by": self.test.name,
        }

    def claim(self, path: Path) -> None:
        """Write the settings beside the checkpoints, so that no run mixes two plans.

        Raises:
            ClickException: the folder holds checkpoints of another plan.
        """
        text = json.dumps(self.facts()) + "\n"
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise click.ClickException(f"{path} has other settings; name another --folder")
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def measure(network: str, seed: int, plan: Plan, folder: Path, report: Report) -> dict[str, Any]:
    """Train a network with a seed, export its files, and return their accuracies.

    A training that was killed continues after its last epoch.

    Args:
        network: "lenet", or "hard" for the network of `build_hard`, with unbalanced channels.
        seed: the seed of all trainings.
        plan: the data and the recipes.
        folder: the folder for the checkpoints and the files.
        report: called with the progress of each training.
    """
    start = folder / f"{network}-{seed}.keras"
    model = build_hard(seed) if network == "hard" else None
    settings = TrainingSettings(plan.recipe, seed, network="lenet" if model is None else "")
    float_accuracy = _train(start, plan, settings, model, report)
    if network == "hard":
        start, float_accuracy = _unbalance_checkpoint(start, seed, plan, float_accuracy)
    rounded = {name: _finetune(start, name, seed, plan, report) for name in _PRECISIONS[network]}
    tuned, tuned_accuracy = _finetune(start, "", seed, plan, report)
    row: dict[str, Any] = {
        "seed": seed,
        "float_accuracy": float_accuracy,
        "tuned_float_accuracy": tuned_accuracy,
    }
    for precision, (checkpoint, graph_accuracy) in rounded.items():
        (ptq,) = _export(start, plan, precision, ("tflite",))
        (tuned_ptq,) = _export(tuned, plan, precision, ("tflite",))
        qat, c_file = _export(checkpoint, plan, precision, ("tflite", "native"))
        expected = _logits_of_graph(checkpoint, plan.test, FakeQuantizedNetwork.load)
        integers = _logits_of_graph(checkpoint, plan.test, IntegerNetwork)
        actual, in_c = _logits(qat, plan.test), _logits(c_file, plan.test)
        figures = {
            "ptq_accuracy": _accuracy(_logits(ptq, plan.test), plan.test),
            "tuned_ptq_accuracy": _accuracy(_logits(tuned_ptq, plan.test), plan.test),
            "qat_graph_accuracy": graph_accuracy,
            "qat_accuracy": _accuracy(actual, plan.test),
            "c_accuracy": _accuracy(in_c, plan.test),
            "agreement_with_graph": _agreement(actual, expected),
            "c_agreement_with_graph": _agreement(in_c, expected),
            "same_logits_as_graph": _same_rows(actual, expected, qat),
            "c_same_logits_as_graph": _same_rows(in_c, integers, qat),
            "tflite_bytes": qat.size_bytes,
            "c_constant_bytes": footprint.estimate(
                c_file.path.read_bytes(), CORES["cortex-m4"]
            ).constant_bytes,
        }
        row[precision] = figures | _points(figures, row)
    return row


def _points(figures: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """Return the changes of the accuracy in points, and the part of PTQ's loss that QAT avoids."""
    before, tuned = row["float_accuracy"], row["tuned_float_accuracy"]
    ptq, tuned_ptq = figures["ptq_accuracy"], figures["tuned_ptq_accuracy"]
    qat = figures["qat_accuracy"]
    return {
        "ptq_points": 100 * (ptq - before),
        "tuned_ptq_points": 100 * (tuned_ptq - tuned),
        "qat_points": 100 * (qat - before),
        "qat_points_against_tuned": 100 * (qat - tuned),
        "won_back": _won_back(before, ptq, qat),
        "won_back_against_tuned": _won_back(tuned, tuned_ptq, qat),
    }


def _won_back(full: float, ptq: float, qat: float) -> float | None:
    """Return the part of PTQ's loss that QAT avoids; None if PTQ loses less than one point."""
    return (qat - ptq) / (full - ptq) if full - ptq >= 0.01 else None


def summarize(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return mean, smallest and largest of each figure over the seeds."""
    summary: dict[str, Any] = {}
    for name, value in rows[0].items():
        inner = [row[name] for row in rows]
        if isinstance(value, dict):
            summary[name] = summarize(inner)
        elif name != "seed" and None not in inner:
            mean = sum(inner) / len(inner)
            summary[name] = {"mean": mean, "min": min(inner), "max": max(inner)}
    return summary


def _train(
    checkpoint: Path, plan: Plan, settings: TrainingSettings, model: Any, report: Report,
    artifact: Artifact | None = None,
) -> float:  # fmt: skip
    """Train unless the training is finished, and return the accuracy on the test images."""
    history = finished_training(checkpoint)
    if history is None:
        start = None
        if artifact:
            start = loop.StartingModel(model, artifact.preprocessing)
        elif model is not None:
            start = loop.StartingModel(model)
        resume = (training_folder(checkpoint) / STATE_FILE).exists()
        _, history = recorded_training.train(
            checkpoint, plan.training, plan.test, settings, resume, report, start=start
        )
    assert history.test_accuracy is not None
    return history.test_accuracy


def _finetune(
    start: Path, quantize: str, seed: int, plan: Plan, report: Report
) -> tuple[Path, float]:
    """Train a checkpoint as `finetune` does; without rounding if `quantize` is empty."""
    artifact = load_artifact(start)
    output = start.with_name(f"{start.stem}-{quantize or 'tuned'}.keras")
    settings = TrainingSettings(
        plan.finetune, seed, network="", quantize=quantize, start_sha256=artifact.sha256
    )
    return output, _train(output, plan, settings, load_checkpoint(start), report, artifact)


def _export(
    checkpoint: Path, plan: Plan, precision: str, formats: tuple[str, ...]
) -> list[Artifact]:
    folder = checkpoint.with_suffix("")
    return exporter.export(checkpoint, folder, plan.training, plan.test, formats, (precision,))


def _logits(artifact: Artifact, data: Dataset) -> Logits:
    pair = Pair(artifact, get_target(_TARGETS[artifact.format]))
    return infer_in_worker(pair, data.images, 1, _TIMEOUT_S)[0]


def _logits_of_graph(
    checkpoint: Path, data: Dataset, read_network: Callable[[Any, TrainedRanges], Any]
) -> Logits:
    """Return the logits of the trained network, in the arithmetic of `read_network`."""
    ranges = read_ranges(checkpoint)
    assert ranges
    network = read_network(load_checkpoint(checkpoint), ranges)
    return loop.predict_logits(network, data, rule=load_artifact(checkpoint).preprocessing)


def _accuracy(logits: Logits, data: Dataset) -> float:
    return float(np.mean(logits.argmax(axis=1) == data.labels))


def _agreement(logits: Logits, expected: Logits) -> float:
    return float(np.mean(logits.argmax(axis=1) == expected.argmax(axis=1)))


def _same_rows(logits: Logits, expected: Logits, artifact: Artifact) -> float:
    """Return the fraction of images whose logits are the same integers."""
    scale = artifact.outputs[0].scale
    assert scale
    return float(np.mean(np.all(np.abs(logits - expected) < scale / 2, axis=1)))


def build_hard(seed: int) -> Any:
    """Build a small depthwise separable network, whose channels `unbalance` can scale."""
    tf.keras.utils.set_random_seed(seed)
    layers = tf.keras.layers

    def normalized(convolution: Any) -> Iterator[Any]:
        yield from (convolution, layers.BatchNormalization(), layers.ReLU())

    stack = [*normalized(layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False))]
    for channels, strides in ((24, 1), (32, 2)):
        depthwise = layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)
        stack += [*normalized(depthwise)]
        stack += [*normalized(layers.Conv2D(channels, 1, use_bias=False))]
    image = tf.keras.Input((28, 28, 1))
    return tf.keras.Sequential(
        [image, *stack, layers.GlobalAveragePooling2D(), layers.Dense(10, name="logits")]
    )


def unbalance(model: Any, seed: int) -> None:
    """Scale the channels between two convolutions, and divide by the factors in the second.

    The factors are random powers of two, and a ReLU keeps positive factors. The float network
    therefore computes the same logits. A range for each tensor fits the largest channel, so the
    small channels have few of the 256 values.
    """
    random = np.random.default_rng(seed)
    normalizations = [
        index
        for index, layer in enumerate(model.layers)
        if isinstance(layer, tf.keras.layers.BatchNormalization)
    ]
    for index in normalizations[:-1]:
        layer = model.layers[index]
        exponents = random.integers(-_LARGEST_EXPONENT, _LARGEST_EXPONENT + 1, layer.gamma.shape)
        factors = np.exp2(exponents).astype(np.float32)
        layer.gamma.assign(layer.gamma * factors)
        layer.beta.assign(layer.beta * factors)
        following = next(each for each in model.layers[index + 1 :] if hasattr(each, "kernel"))
        following.kernel.assign(following.kernel / factors[:, np.newaxis])


def _unbalance_checkpoint(
    trained: Path, seed: int, plan: Plan, accuracy: float
) -> tuple[Path, float]:
    """Write the trained network with unbalanced channels; return its path and its accuracy."""
    path = trained.with_name(f"{trained.stem}-unbalanced.keras")
    rule = load_artifact(trained).preprocessing
    model = load_checkpoint(trained)
    unbalance(model, seed)
    if not path.exists():
        loop.save_checkpoint(model, path, plan.training.class_names, rule)
    unbalanced_accuracy = loop.accuracy(model, plan.test, rule)
    assert abs(unbalanced_accuracy - accuracy) < 1e-3, "the float function must not change"
    return path, unbalanced_accuracy
