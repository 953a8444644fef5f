"""Speed and accuracy of training: python -m benchmarks.training COMMAND

`speed` interleaves epochs of the published eager loop and of ours in one process. It reports their
ratio, and separately the time to compile. `accuracy` trains a recipe with several seeds and uses
the test images once, at the end of each training. `smallest` does the same with small networks,
verifies their files and counts instructions. `quantization` compares int8 and int4 files that are
calibrated with those of quantization-aware training. Both go on where they were killed. All write
benchmarks/results/<machine>/<time>-<commit>-training-*.json.
"""

import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from benchmarks import quantized
from benchmarks.record import ROOT, keep
from lenet_edge import model as lenet
from lenet_edge.bench.instructions.count import count_instructions
from lenet_edge.data import mnist
from lenet_edge.data.dataset import Dataset, to_input
from lenet_edge.export import exporter
from lenet_edge.flows import recorded_training
from lenet_edge.selection import load_artifacts, pair_up
from lenet_edge.support.files import atomic_write
from lenet_edge.train import loop
from lenet_edge.train.recipe import CLASSIC, RECIPES
from lenet_edge.train.saved_state import (
    STATE_FILE,
    TrainingSettings,
    finished_training,
    training_folder,
)
from lenet_edge.verify.verify import verify

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


SMALL_NETWORKS = ("cnn-3k", "cnn-5k", "cnn-8k", "cnn-16k")  # those of docs/smallest.md
SMALL_EPOCHS = 60
FORMATS = ("tflite", "onnx", "native")
PRECISIONS = ("float32", "float16", "dynamic", "int8", "int16x8")


@main.command()
@click.argument("networks", nargs=-1, type=click.Choice(SMALL_NETWORKS))
@click.option("--seeds", default="1,2,3", show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), default=ROOT / "build" / "smallest")
def smallest(networks: tuple[str, ...], seeds: str, folder: Path) -> None:
    """Train small networks, verify each of their files, and count instructions on a Cortex-M4.

    A training that was killed continues after its last epoch, and finished seeds are not repeated.
    """
    for network in networks or SMALL_NETWORKS:
        rows = []
        for seed in map(int, seeds.split(",")):
            done = folder / f"{network}-{seed}.row.json"
            if not done.exists():
                row = _train_and_measure(network, seed, folder)
                with atomic_write(done) as temporary:
                    temporary.write_text(json.dumps(row) + "\n", encoding="utf-8")
            rows.append(json.loads(done.read_text(encoding="utf-8")))
            click.echo(f"{network}, seed {seed}: {rows[-1]['test_accuracy']:.2%}")
        facts: dict[str, Any] = {"network": network, "epochs": SMALL_EPOCHS}
        for name in ("test_accuracy", "int8_test_accuracy"):
            accuracies = [row[name] for row in rows]
            facts[f"mean_{name}"] = statistics.mean(accuracies)
            facts[f"min_{name}"] = min(accuracies)
        click.echo(json.dumps(facts))
        _keep(f"training-smallest-{network}", {**facts, "runs": rows})


def _train_and_measure(network: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train a network with a seed; return its accuracy and the figures of its files."""
    training, test = mnist.load("train"), mnist.load("test")
    recipe = dataclasses.replace(RECIPES["best"], epochs=SMALL_EPOCHS)
    checkpoint = folder / f"{network}-{seed}.keras"
    history = finished_training(checkpoint)
    if history is None:
        settings = TrainingSettings(recipe, seed, network=network)
        resume = (training_folder(checkpoint) / STATE_FILE).exists()
        _, history = recorded_training.train(checkpoint, training, test, settings, resume, _print)
    exported = folder / f"{network}-{seed}"
    artifacts = exporter.export(
        checkpoint, exported, training, test, FORMATS, PRECISIONS,
        on_refused=lambda format, precision, error: click.echo(f"{format} {precision}: {error}"),
    )  # fmt: skip
    files = load_artifacts([artifact.path for artifact in artifacts], exported)
    reports, skipped = verify(pair_up(files, ())[0])
    (native,) = (file for file in files if (file.format, file.precision) == ("native", "int8"))
    (report,) = (
        report
        for report in reports
        if (report.candidate, report.target) == (native.name, "native-cpu")
    )
    count = count_instructions(native, "cortex-m4")
    return {
        "seed": seed,
        "seconds": round(sum(epoch["seconds"] for epoch in history.epochs), 1),
        "validation_accuracy": history.epochs[-1]["accuracy"],
        "test_accuracy": history.test_accuracy,
        "int8_test_accuracy": report.candidate_accuracy,
        "int8_agreement": report.top1_agreement,
        "files": {file.name: file.size_bytes for file in files},
        "not_passed": [
            [each.candidate, each.target, each.verdict, *each.reasons]
            for each in reports
            if each.verdict != "pass"
        ],
        "skipped": [[each.target, each.reason] for each in skipped],
        "passed": sum(each.verdict == "pass" for each in reports),
        "cortex_m4": {
            "instructions": count.instructions,
            "flash_bytes": count.flash_bytes,
            "ram_bytes": count.ram_total_bytes,
            "compiler": count.compiler,
        },
    }


@main.command()
@click.option(
    "--network", type=click.Choice(quantized.NETWORKS), default="lenet", show_default=True
)
@click.option("--seeds", default="1,2,3,4,5", show_default=True)
@click.option("--pilot", is_flag=True, help="Try it: few images, 2 epochs, held-out images.")
@click.option("--folder", type=click.Path(path_type=Path), default=ROOT / "build" / "quantization")
def quantization(network: str, seeds: str, pilot: bool, folder: Path) -> None:
    """Compare files that are calibrated with those of quantization-aware training.

    "hard" is a depthwise network with unbalanced channels. A training that was killed continues
    after its last epoch, and finished seeds are not repeated. The test images judge each file once,
    and no setting was chosen by them. --pilot keeps no result.
    """
    plan = quantized.Plan.of(network, mnist.load("train"), mnist.load("test"))
    if pilot:
        plan, folder = plan.pilot(), folder / "pilot"
    plan.claim(folder / f"{network}.plan.json")
    rows = []
    for seed in map(int, seeds.split(",")):
        done = folder / f"{network}-{seed}.row.json"
        if not done.exists():
            row = quantized.measure(network, seed, plan, folder, _print)
            with atomic_write(done) as temporary:
                temporary.write_text(json.dumps(row) + "\n", encoding="utf-8")
        rows.append(json.loads(done.read_text(encoding="utf-8")))
        click.echo(json.dumps(rows[-1]))
    facts = {"network": network, **plan.facts(), **quantized.summarize(rows)}
    click.echo(json.dumps(facts))
    if not pilot:
        _keep(f"training-quantization-{network}", {**facts, "runs": rows})


def _print(progress: loop.TrainingProgress) -> None:
    if progress.accuracy is not None:
        click.echo(f"epoch {progress.epoch} of {progress.epochs}: {progress.accuracy:.2%}")


def _keep(name: str, facts: dict[str, Any]) -> None:
    versions = {"tensorflow": tf.__version__, "keras": tf.keras.__version__}
    path = keep(name, {**versions, **facts})
    click.echo(f"Kept in {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
