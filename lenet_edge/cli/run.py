"""lenet-edge run"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from lenet_edge.cli._options import (
    batch_size_option,
    dataset_options,
    json_option,
    recipe_options,
)
from lenet_edge.cli._terminal import (
    alone_in,
    measuring_alone,
    output,
    progress_bar,
    say,
    training_progress,
)


@click.command("run")
@click.argument(
    "model", type=click.Path(path_type=Path, dir_okay=False), required=False, default=None
)
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo"),
    show_default=True,
    help="Where the model, the exported files, results.json and report.html go.",
)
@recipe_options
@dataset_options
@batch_size_option
@json_option
def command(
    model: Path | None,
    output_dir: Path,
    recipe: str,
    epochs: int | None,
    seed: int,
    dataset: str,
    data_dir: Path | None,
    batch_sizes: tuple[int, ...],
    json_file: Path | None,
) -> None:
    """Do everything in a row, and say which file to ship.

    It trains, exports, verifies and benches, and ends in one table and one page, report.html.
    With MODEL, a .keras checkpoint, nothing is trained.

    \b
    Example: lenet-edge run --output-dir demo
    """
    from lenet_edge.artifacts.artifact import check_format

    if model is not None:
        check_format(model)
    click.get_current_context().with_resource(alone_in(output_dir))
    say("Loading TensorFlow ...")
    from lenet_edge.errors import MissingPackageError
    from lenet_edge.flows import datasets
    from lenet_edge.flows.run import REPORT, RESULTS, run
    from lenet_edge.report import page
    from lenet_edge.report.terminal import summary_view
    from lenet_edge.train.recipe import RECIPES

    chosen = RECIPES[recipe]
    found = run(
        output_dir,
        *datasets.load(dataset, data_dir),
        progress_bar,
        training_progress,
        measuring_alone,
        model,
        dataclasses.replace(chosen, epochs=epochs or chosen.epochs),
        seed,
        batch_sizes,
    )
    say(f"Everything is in {output_dir}; the figures are in {output_dir / RESULTS}.")
    output(summary_view(found), found.to_json(), json_file)
    try:
        page.write(output_dir / REPORT, [(RESULTS, found)])
    except MissingPackageError as error:
        say(f"No report was written: {error}")
    else:
        say(f"The report is in {output_dir / REPORT}; open it in a browser.")
