"""The command ``lenet-edge search``."""

from __future__ import annotations

from pathlib import Path

import click

from lenet_edge.cli._console import TERMINAL
from lenet_edge.cli._help import OUTPUT, TRAINING, Command, Section, StringChoice, option
from lenet_edge.cli._options import dataset_options, json_option, percent
from lenet_edge.cli._outputs import OutputFolder
from lenet_edge.cli._terminal import exit_with, output, say

_BOUNDS = "What the network may cost"


@click.command("search", cls=Command, section=Section.MAKE, position=3)
@option(_BOUNDS, "--max-bytes", type=click.IntRange(1), metavar="N",
        help="Bytes of the weights and biases in their precision.")  # fmt: skip
@option(_BOUNDS, "--max-instructions", type=click.IntRange(1), metavar="N",
        help="Instructions of an inference on a Cortex-M4, as estimated.")  # fmt: skip
@option(
    _BOUNDS,
    "--min-accuracy",
    callback=lambda ctx, param, text: None if text is None else percent(ctx, param, text),
    metavar="PERCENT",
    help="Accuracy on held-out training images, such as 99.5. The exit status is 3 if no network"
    " reaches it.",
)
@option(
    _BOUNDS,
    "precisions",
    "--precision",
    multiple=True,
    type=StringChoice(["float32", "int8", "int4"]),
    help="Precision of the weights: int8 and int4 (dense layers only) are trained with"
    " quantization. Repeatable. Default: int8.",
)
@option(
    TRAINING,
    "num_networks",
    "--trials",
    type=click.IntRange(1),
    metavar="N",
    default=16,
    show_default=True,
    help="Number of networks to try.",
)
@option(TRAINING, "--epochs", type=click.IntRange(1), metavar="N", default=24, show_default=True,
        help="Epochs of the networks that are trained to the end.")  # fmt: skip
@option(TRAINING, "--seed", type=click.IntRange(0), metavar="N", default=1, show_default=True,
        help="Seed of the choices and of the trainings.")  # fmt: skip
@option(TRAINING, "--resume", is_flag=True, help="Continue a search that was interrupted.")
@dataset_options
@option(
    OUTPUT,
    "--output-dir",
    type=OutputFolder("network-*.keras", "network-*.keras.json", "search.*"),
    default=Path("search"),
    show_default=True,
    help="Folder for the checkpoints, the Pareto front and its picture.",
)
@json_option
def command(
    max_bytes: int | None,
    max_instructions: int | None,
    min_accuracy: float | None,
    precisions: tuple[str, ...],
    num_networks: int,
    epochs: int,
    seed: int,
    resume: bool,
    dataset: str,
    data_dir: Path | None,
    output_dir: Path,
    json_file: Path | None,
) -> None:
    """Search for the smallest network that is accurate enough.

    The command tries networks of many widths, kernels, strides and depthwise layers. It trains each
    for a quarter of the epochs, continues the better half, and of these the better half. The result
    is the Pareto front of accuracy, bytes and instructions, as a table, as search.json and as
    search.png. Each network of it is a checkpoint that `export` takes. A search that is continued
    with --resume ends with the same result as an uninterrupted one.

    \b
    Example: lenet-edge search --max-bytes 20000 --min-accuracy 99
    Example: lenet-edge search --max-instructions 500000 --precision int8
    """
    from lenet_edge.flows.search import SearchSettings, search
    from lenet_edge.report.terminal.search import search_view

    settings = SearchSettings(
        max_bytes,
        max_instructions,
        min_accuracy,
        precisions or ("int8",),
        num_networks,
        epochs,
        seed,
    )
    facts = search(output_dir, TERMINAL, settings, dataset, data_dir, resume)
    say(f"Written: {output_dir}/search.json and search.png, and the checkpoints beside them.")
    output(search_view(facts), facts, json_file)
    exit_with("pass" if facts["smallest"] else "fail")
