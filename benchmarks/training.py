"""Speed and accuracy of training: python -m benchmarks.training speed|accuracy

`speed` interleaves epochs of the published eager loop and of ours in one process. It reports their
ratio, and separately the time to compile. `accuracy` trains a recipe with several seeds and uses
the test images once, at the end of each training. Both write
benchmarks/results/<machine>/<time>-<commit>-training-*.json.
"""

import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import click

from benchmarks.record import ROOT, keep
from lenet_edge import model as lenet
from lenet_edge.data import mnist
from lenet_edge.data.dataset import Dataset, to_input
from lenet_edge.train import loop
from lenet_edge.train.recipe import CLASSIC, RECIPES
from lenet_edge.train.saved_state import TrainingSettings

import tensorflow as tf  # isort: skip


@click.group()
def main() -> None:
    """Measure training."""


@main.command()
@click.option("--rounds", default=3, show_default=True)
def speed(rounds: int) -> None:
    """Interleave epochs of the published eager loop and of ours, on the same images."""
    training = mnist.load("train")
    ours = {
        name: loop.EpochRunner(
            loop.StartingModel(lenet.build_lenet()), training, TrainingSettings(recipe)
        ).run_epoch
        for name, recipe in (("classic", CLASSIC), ("with augmentation", RECIPES["best"]))
    }
    eager = EagerEpochs(training)
    _seconds(eager, 1)
    first = {name: _seconds(epochs, 1) for name, epochs in ours.items()}  # compiles
    rows = []
    for number in range(2, rounds + 2):
        row = {"eager": _seconds(eager, number)}
        row |= {name: _seconds(epochs, number) for name, epochs in ours.items()}
        click.echo(", ".join(f"{name} {seconds:.2f} s" for name, seconds in row.items()))
        rows.append(row)
    ratios = {name: [row["eager"] / row[name] for row in rows] for name in ours}
    compile_s = {name: first[name] - statistics.median(row[name] for row in rows) for name in ours}
    for name, values in ratios.items():
        click.echo(
            f"{name}: {statistics.median(values):.1f} times as fast as the published eager loop"
            f" ({min(values):.1f} to {max(values):.1f}); compiling took {compile_s[name]:.1f} s"
        )
    _keep("training-speed", {"epoch_s": rows, "ratio": ratios, "compile_s": compile_s})


class EagerEpochs:
    """The published loop: Keras layers called eagerly, batches from tf.data."""

    def __init__(self, data: Dataset) -> None:
        self._model = lenet.build_lenet()
        self._optimizer = tf.keras.optimizers.Adam(1e-3)
        one_hot = tf.one_hot(data.labels, 10)
        self._batches = (
            tf.data.Dataset.from_tensor_slices((to_input(data.images), one_hot))
            .shuffle(10_000)
            .batch(128)
        )
        self._loss = tf.keras.losses.CategoricalCrossentropy(from_logits=True)

    def __call__(self, epoch: int) -> Iterator[Any]:
        for images, one_hot_labels in self._batches:
            with tf.GradientTape() as tape:
                loss = self._loss(one_hot_labels, self._model(images, training=True))
            gradients = tape.gradient(loss, self._model.trainable_variables)
            self._optimizer.apply_gradients(
                zip(gradients, self._model.trainable_variables, strict=True)
            )
            yield loss


def _seconds(epochs: Callable[[int], Iterator[Any]], number: int) -> float:
    started = time.perf_counter()
    for _ in epochs(number):
        pass
    return time.perf_counter() - started


@main.command()
@click.option("--recipe", type=click.Choice(list(RECIPES)), default="best", show_default=True)
@click.option("--seeds", default="1,2,3", show_default=True)
def accuracy(recipe: str, seeds: str) -> None:
    """Train with several seeds; use the test images once, at the end of each training."""
    training, test = mnist.load("train"), mnist.load("test")
    rows = []
    for seed in map(int, seeds.split(",")):
        started = time.perf_counter()
        _, history = loop.train(training, test, TrainingSettings(RECIPES[recipe], seed))
        assert history.test_accuracy is not None
        row = {
            "seed": seed,
            "seconds": round(time.perf_counter() - started, 1),
            "validation_accuracy": history.epochs[-1]["accuracy"],
            "test_accuracy": history.test_accuracy,
        }
        click.echo(json.dumps(row))
        rows.append(row)
    accuracies = [row["test_accuracy"] for row in rows]
    spread = f" ± {statistics.stdev(accuracies):.2%}" if len(accuracies) > 1 else ""
    mean, lowest = statistics.mean(accuracies), min(accuracies)
    click.echo(f"{recipe}: {mean:.2%}{spread}, at least {lowest:.2%}")
    _keep(
        f"training-accuracy-{recipe}",
        {
            "recipe": dataclasses.asdict(RECIPES[recipe]),
            "mean_test_accuracy": mean,
            "min_test_accuracy": lowest,
            "runs": rows,
        },
    )


def _keep(name: str, facts: dict[str, Any]) -> None:
    versions = {"tensorflow": tf.__version__, "keras": tf.keras.__version__}
    path = keep(name, {**versions, **facts})
    click.echo(f"Kept in {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
