"""The command ``lenet-edge train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet_edge.cli._console import TERMINAL
from lenet_edge.cli._help import OUTPUT, TRAINING, Command, Section, StringChoice, option
from lenet_edge.cli._options import (
    DEFAULT_DIR,
    dataset_options,
    json_option,
    mlflow_option,
    recipe_options,
)
from lenet_edge.cli._outputs import OutputFile
from lenet_edge.cli._terminal import say, write_json
from lenet_edge.support.printable import make_printable

if TYPE_CHECKING:
    from lenet_edge.flows.train import TrainingResult


def written_beside(checkpoint: Path) -> tuple[str, ...]:
    """Return the names of the manifest, of other seeds and of the record of a training."""
    record = ("history.json", "state.npz", "curve.png")
    stem = checkpoint.stem
    return (
        f"{checkpoint.name}.json",
        f"{stem}.seeds/*",
        *(f"{stem}.training/{name}" for name in record),
    )


@click.command("train", cls=Command, section=Section.MAKE, position=1)
@recipe_options
@option(TRAINING, "--batch-size", type=click.IntRange(1), metavar="N",
        help="Number of images in a batch. Default: the recipe's.")  # fmt: skip
@option(
    TRAINING,
    "--learning-rate",
    type=click.FloatRange(0, min_open=True),
    metavar="RATE",
    help="Learning rate, or its peak if the recipe has a schedule. Default: the recipe's.",
)
@option(
    TRAINING,
    "--strategy",
    type=StringChoice(["one", "mirrored", "multi-worker"]),
    help="Share each batch with tf.distribute: one device, all GPUs (mirrored), or all processes"
    " in TF_CONFIG (multi-worker). Default: this process alone.",
)
@option(
    TRAINING,
    "--teacher",
    type=click.Path(path_type=Path),
    metavar="CHECKPOINT",
    help="Keras classifier of the same images and classes. The network also learns to predict as"
    " this one does (knowledge distillation).",
)
@option(
    TRAINING,
    "--seeds",
    type=click.IntRange(1),
    metavar="N",
    default=1,
    show_default=True,
    help="Train N times, with the seeds from --seed on. The model with the median accuracy is the"
    " checkpoint; the folder NAME.seeds keeps all.",
)
@option(
    TRAINING,
    "--quantize",
    type=StringChoice(["int8", "int4"]),
    help="Round weights and activations in the last fifth of the epochs, as the int8 file does"
    " (quantization-aware training). int4: the weights of dense layers have 4 bits.",
)
@option(TRAINING, "--resume", is_flag=True, help="Continue a training that was interrupted.")
@dataset_options
@option(
    OUTPUT,
    "checkpoint",
    "--output",
    type=OutputFile(".keras", regular=True, written=written_beside),
    default=lambda: DEFAULT_DIR / f"{click.get_current_context().params['network']}.keras",
    show_default=f"{DEFAULT_DIR}/NETWORK.keras",
    help="Checkpoint to write.",
)
@mlflow_option
@json_option
def command(
    network: str,
    recipe: str,
    epochs: int | None,
    seed: int,
    batch_size: int | None,
    learning_rate: float | None,
    dataset: str,
    data_dir: Path | None,
    strategy: str | None,
    teacher: Path | None,
    seeds: int,
    quantize: str | None,
    resume: bool,
    checkpoint: Path,
    mlflow: Path | None,
    json_file: Path | None,
) -> None:
    """Train LeNet or another network on MNIST or your images.

    The state is saved after each epoch in the folder NAME.training beside the checkpoint, together
    with history.json, a training curve and event files for TensorBoard. A training that is
    continued with --resume ends with the same model as an uninterrupted training.

    \b
    Example: lenet-edge train --recipe best
    Example: lenet-edge train --quantize int8
    Example: lenet-edge train --network resnet-8
    Example: lenet-edge train --seeds 5
    Example: lenet-edge train --strategy mirrored
    Example: lenet-edge train --dataset photos/ --output mine/lenet.keras
    """
    from lenet_edge.flows.train import train

    result = train(
        checkpoint,
        TERMINAL,
        recipe,
        epochs,
        seed,
        batch_size,
        learning_rate,
        dataset,
        data_dir,
        strategy,
        resume,
        network,
        teacher,
        seeds,
        mlflow,
        quantize,
    )
    if result is None:
        say("Done; the first worker has written the checkpoint")
        return
    if str(json_file) != "-":
        say_result(result)
        if result.seeds:
            click.echo(f"Test accuracy: {result.seeds}")
    if json_file:
        write_json(json_file, result.to_json())


def say_result(result: TrainingResult) -> None:
    """Print the checkpoint with its accuracy, that of the quantized network if it has one."""
    precision = result.history.settings.quantize
    rounded = f" in {precision}" if precision else ""
    click.echo(
        make_printable(
            f"{result.artifact.path}: {result.test_accuracy:.2%} of"
            f" {result.num_test_images:,} test images right{rounded}"
            f" ({result.artifact.size_bytes:,} bytes)"
        )
    )
