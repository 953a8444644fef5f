"""lenet-edge train"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet_edge.cli._options import DEFAULT_DIR
from lenet_edge.cli._terminal import say

if TYPE_CHECKING:
    from lenet_edge.train.loop import Progress


@click.command("train")
@click.option("--epochs", type=click.IntRange(1), default=10, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=128, show_default=True)
@click.option(
    "--learning-rate", type=click.FloatRange(0, min_open=True), default=1e-3, show_default=True
)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=DEFAULT_DIR / "lenet.keras",
    show_default=True,
    help="The checkpoint to write.",
)
def command(epochs: int, batch_size: int, learning_rate: float, seed: int, output: Path) -> None:
    """Train LeNet on MNIST.

    \b
    Example: lenet-edge train --epochs 3 --output mine/lenet.keras
    """
    if output.suffix != ".keras":
        raise click.BadParameter(f"{output} must end in .keras", param_hint="--output")
    say("Loading TensorFlow and MNIST ...")
    from lenet_edge.data import mnist
    from lenet_edge.train import loop

    training, test = mnist.load("train"), mnist.load("test")
    model = loop.train(
        training, test, epochs, batch_size, learning_rate, seed, report=print_progress
    )
    artifact = loop.save(model, output, training.class_names)
    click.echo(
        f"{artifact.path}: {loop.accuracy(model, test):.2%} of {len(test):,} test images,"
        f" {model.count_params():,} parameters"
    )


def print_progress(progress: Progress) -> None:
    """Print the loss every 100 steps and the accuracy after each epoch."""
    if progress.accuracy is not None:
        say(f"epoch {progress.epoch}: test accuracy {progress.accuracy:.2%}")
    elif progress.loss is not None:
        say(
            f"epoch {progress.epoch}, step {progress.step}/{progress.steps_per_epoch}:"
            f" loss {progress.loss:.4f}"
        )
