"""The command ``lenet-edge run``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet_edge.cli._console import TERMINAL
from lenet_edge.cli._help import OUTPUT, Command, Section, option
from lenet_edge.cli._options import (
    batch_size_option,
    calibration_option,
    dataset_options,
    input_options,
    json_option,
    mlflow_option,
    recipe_options,
)
from lenet_edge.cli._outputs import OutputFolder
from lenet_edge.cli._terminal import exit_with, output, say

if TYPE_CHECKING:
    from lenet_edge.artifacts.stated_input import StatedInput


@click.command("run", cls=Command, section=Section.START)
@click.argument(
    "model", type=click.Path(path_type=Path, dir_okay=False), required=False, default=None
)
@recipe_options
@dataset_options
@calibration_option
@input_options
@batch_size_option
@option(
    OUTPUT,
    "--output-dir",
    type=OutputFolder("results.json", "report.html", "reference-*.npz", "*.training/*"),
    default=Path("demo"),
    show_default=True,
    help="Folder for the model, the exported files, results.json and report.html.",
)
@mlflow_option
@json_option
def command(
    model: Path | None,
    output_dir: Path,
    mlflow: Path | None,
    network: str,
    recipe: str,
    epochs: int | None,
    seed: int,
    dataset: str,
    data_dir: Path | None,
    batch_sizes: tuple[int, ...],
    json_file: Path | None,
    calibration: Path | None,
    stated: StatedInput,
) -> None:
    """Train, export, verify and bench, and recommend one file.

    The command prints one table and writes one page, report.html. With MODEL, a .keras
    or .onnx file of any classifier, it does not train. Give its images with --dataset or
    --calibration. The exit status is 3 if nothing may be shipped, and 4 if that is not decided.

    \b
    Example: lenet-edge run --output-dir demo
    """
    from lenet_edge.errors import MissingPackageError
    from lenet_edge.flows.run import RESULTS, run, write_report
    from lenet_edge.report.recommend import recommend
    from lenet_edge.report.terminal.summary import summary_view

    measured = run(
        output_dir, TERMINAL, model, recipe, epochs, seed, dataset, data_dir, batch_sizes,
        calibration, stated, network, mlflow,
    )  # fmt: skip
    say(f"Everything is in {output_dir}; the figures are in {output_dir / RESULTS}.")
    output(summary_view(measured), measured.to_json(), json_file)
    verdict = recommend(measured).verdict
    try:
        report = write_report(output_dir, measured)
    except MissingPackageError as error:
        say(f"No report was written: {error}")
        exit_with(verdict)
        raise
    say(f"The report is in {report}; open it in a browser.")
    exit_with(verdict)
