"""The command ``lenet-edge tune``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet_edge.cli._console import TERMINAL
from lenet_edge.cli._help import OUTPUT, TARGETS, Command, Section, option
from lenet_edge.cli._options import DEFAULT_DIR, dataset_options, input_options, json_option
from lenet_edge.cli._outputs import OutputFolder
from lenet_edge.cli._terminal import output, say

if TYPE_CHECKING:
    from lenet_edge.artifacts.stated_input import StatedInput


@click.command("tune", cls=Command, section=Section.MAKE, position=5)
@click.argument(
    "model", type=click.Path(path_type=Path), default=DEFAULT_DIR / "lenet.keras", required=False
)
@option(
    TARGETS,
    "--target",
    "target_name",
    default="litert",
    show_default=True,
    metavar="NAME",
    help="Target or runtime that runs .tflite files.",
)
@dataset_options
@input_options
@option(
    OUTPUT,
    "--output-dir",
    type=OutputFolder("*.tune.json", "*.tune.png"),
    default=DEFAULT_DIR,
    show_default=True,
    help="Folder for the fastest file, the Pareto front and its picture.",
)
@json_option
def command(
    model: Path,
    target_name: str,
    dataset: str,
    data_dir: Path | None,
    output_dir: Path,
    json_file: Path | None,
    stated: StatedInput,
) -> None:
    """Find the fastest TFLite file that mixes float and int8 layers.

    MODEL is a .keras or .onnx file; the default is exported/lenet.keras. The command measures, on
    this machine, every mix that agrees with the float model on held-out training images. It writes
    the fastest file, the Pareto front (accuracy, latency, bytes) as JSON, and a picture of the
    front.

    \b
    Example: lenet-edge tune
    Example: lenet-edge tune mine/photos.keras --dataset photos --output-dir mine
    """
    from lenet_edge.flows.tune import tune_and_save
    from lenet_edge.report.terminal.tuning import tuning_view

    tuned = tune_and_save(model, output_dir, target_name, TERMINAL, dataset, data_dir, stated)
    names = f"{tuned.json_file.name} and {tuned.picture.name}"
    say(f"Written: {tuned.result.winner.path}, {names} beside it.")
    facts = tuned.result.to_json()
    output(tuning_view(facts), facts, json_file)
