"""The command ``lenet-edge finetune``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet_edge.cli._console import TERMINAL
from lenet_edge.cli._help import OUTPUT, TRAINING, Command, Section, StringChoice, option
from lenet_edge.cli._options import (
    dataset_options,
    input_options,
    json_option,
    mlflow_option,
    seed_option,
)
from lenet_edge.cli._outputs import OutputFile
from lenet_edge.cli._terminal import write_json
from lenet_edge.cli.train import say_result, written_beside

if TYPE_CHECKING:
    from lenet_edge.artifacts.stated_input import StatedInput


@click.command("finetune", cls=Command, section=Section.MAKE, position=2)
@click.argument("model", metavar="CHECKPOINT", type=click.Path(path_type=Path))
@option(
    TRAINING,
    "--quantize",
    type=StringChoice(["int8", "int4"]),
    default="int8",
    show_default=True,
    help="Round as the int8 file does. int4: the weights of dense layers have 4 bits.",
)
@option(TRAINING, "--epochs", type=click.IntRange(1), metavar="N",
        help="Number of epochs. Default: 5, or more for few images.")  # fmt: skip
@seed_option
@option(TRAINING, "--batch-size", type=click.IntRange(1), metavar="N",
        help="Number of images in a batch. Default: 128, or fewer for few images.")  # fmt: skip
@option(TRAINING, "--learning-rate", type=click.FloatRange(0, min_open=True), metavar="RATE",
        help="Peak of the learning rate. Default: 0.001.")  # fmt: skip
@option(TRAINING, "--resume", is_flag=True, help="Continue a training that was interrupted.")
@dataset_options
@input_options
@option(
    OUTPUT,
    "checkpoint",
    "--output",
    type=OutputFile(".keras", regular=True, written=written_beside),
    show_default="NAME_qat.keras beside CHECKPOINT",
    help="Checkpoint to write.",
)
@mlflow_option
@json_option
def command(
    model: Path,
    quantize: str,
    epochs: int | None,
    seed: int,
    batch_size: int | None,
    learning_rate: float | None,
    resume: bool,
    dataset: str,
    data_dir: Path | None,
    checkpoint: Path | None,
    mlflow: Path | None,
    json_file: Path | None,
    stated: StatedInput,
) -> None:
    """Train a Keras classifier for its int8 or int4 file.

    CHECKPOINT is a .keras or .h5 file, from `train` or from elsewhere. The training rounds weights
    and activations as the exported file will (quantization-aware training). The new checkpoint is
    an ordinary .keras file with the trained ranges inside, which `export --int8` uses instead of
    calibration images.

    \b
    Example: lenet-edge finetune exported/lenet.keras
    Example: lenet-edge finetune photos.h5 --quantize int4 --dataset photos/
    """
    from lenet_edge.flows.finetune import finetune

    result = finetune(
        model,
        checkpoint,
        TERMINAL,
        quantize,
        epochs,
        seed,
        batch_size,
        learning_rate,
        dataset,
        data_dir,
        resume,
        stated,
        mlflow,
    )
    if str(json_file) != "-":
        say_result(result)
    if json_file:
        write_json(json_file, result.to_json())
