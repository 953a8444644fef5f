"""Options and arguments that several commands share."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import click

from lenet_edge.artifacts.preprocessing import CHANNELS, RESIZE_RULES
from lenet_edge.cli._help import (
    DATA,
    FLEET,
    INPUT,
    MEASURING,
    OUTPUT,
    TARGETS,
    TRAINING,
    Decorated,
    StringChoice,
    check_choice,
    option,
)
from lenet_edge.cli._outputs import OutputFile, OutputFolder, PathOrName

# The run.sh of a bundle sets the folder, so that it works from any working directory.
DEFAULT_DIR = Path(os.environ.get("LENET_EDGE_EXPORTED", "exported"))
MAX_BATCH_SIZE = 10_000
MAX_THREADS = 256


def files_argument(command: Decorated) -> Decorated:
    """Add [FILES]..., model files; an empty list means every exported file in ./exported."""
    return click.argument("files", nargs=-1, type=click.Path(path_type=Path))(command)


def json_option(command: Decorated) -> Decorated:
    """Add --json FILE, which writes the result as JSON; "-" is standard output."""
    return option(
        OUTPUT,
        "json_file",
        "--json",
        type=OutputFile(".json", allow_dash=True),
        metavar="FILE",
        help='Also write the result as JSON to FILE. "-" prints only the JSON.',
    )(command)


def target_option(command: Decorated) -> Decorated:
    """Add the repeatable --target NAME: a target, a runtime or a format."""
    return option(
        TARGETS,
        "targets",
        "--target",
        multiple=True,
        metavar="NAME",
        help="Run the files on this target, runtime or format (tflite, onnx: its best installed"
        " runtime). Repeatable. Default: every installed target.",
    )(command)


def _delegate_options(
    ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    for value in values:
        if "=" not in value:
            raise click.BadParameter(f"{value!r} is not KEY=VALUE")
    return tuple((key, text) for key, _, text in (value.partition("=") for value in values))


def delegate_options(command: Decorated) -> Decorated:
    """Add --delegate, --delegate-option and --allow-fallback."""
    for decorator in (
        option(
            TARGETS,
            "--allow-fallback",
            is_flag=True,
            help="Accept a delegate or device that leaves nodes to the CPU. Results are labelled.",
        ),
        option(
            TARGETS,
            "delegate_options",
            "--delegate-option",
            multiple=True,
            callback=_delegate_options,
            metavar="KEY=VALUE",
            help="Pass an option to the delegate, or to ONNX Runtime's execution provider."
            " Repeatable.",
        ),
        option(
            TARGETS,
            "--delegate",
            type=PathOrName(),
            metavar="PATH|NAME",
            help="Run .tflite files with an external TFLite delegate: the path of its .so file,"
            " or armnn, edgetpu, ethosu, qnn, teflon or vx.",
        ),
    ):
        command = decorator(command)
    return command


def scheduler_option(command: Decorated) -> Decorated:
    """Add --scheduler ADDRESS, which runs the command on every board of a fleet."""
    return option(
        FLEET,
        "--scheduler",
        metavar="ADDRESS",
        help="Run on every board of the fleet with this Dask scheduler, such as"
        " tls://127.0.0.1:8786; see lenet-edge fleet.",
    )(command)


def num_threads_option(command: Decorated) -> Decorated:
    """Add --num-threads N."""
    return option(
        TARGETS,
        "--num-threads",
        type=click.IntRange(1, MAX_THREADS),
        metavar="N",
        default=1,
        show_default=True,
        help="Number of threads for each inference.",
    )(command)


def thread_counts(ctx: click.Context, parameter: click.Parameter, text: str) -> tuple[int, ...]:
    """Return the sorted thread counts in a list such as "1,4".

    Raises:
        click.BadParameter: the text is not such a list, or a count is out of range.
    """
    counts = _integers(text, "1,4")
    if counts[0] < 1 or counts[-1] > MAX_THREADS:
        raise click.BadParameter(f"{text!r} is out of range; give 1 to {MAX_THREADS} threads")
    return counts


def _batch_sizes(ctx: click.Context, parameter: click.Parameter, text: str) -> tuple[int, ...]:
    sizes = _integers(text, "1,8,32")
    if sizes[0] < 1 or sizes[-1] > MAX_BATCH_SIZE:
        raise click.BadParameter(
            f"{text!r} is out of range; a batch holds 1 to {MAX_BATCH_SIZE:,} images"
        )
    return sizes


def _integers(text: str, example: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(number) for number in text.split(",")}))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of numbers such as {example}") from None


def percent(ctx: click.Context, parameter: click.Parameter, text: str) -> float:
    """Return the fraction that a percentage such as "5%" or "5" stands for.

    Raises:
        click.BadParameter: the text is not a percentage from 0 to 100.
    """
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a percentage such as 5%") from None
    if not 0 <= number <= 100:
        raise click.BadParameter(f"{text!r} is out of range; give 0% to 100%")
    return number / 100


def batch_size_option(command: Decorated) -> Decorated:
    """Add --batch-size N,N,...: the batch sizes to measure."""
    return option(
        MEASURING,
        "batch_sizes",
        "--batch-size",
        callback=_batch_sizes,
        metavar="N,N...",
        default="1,8,32,128",
        show_default=True,
        help="Measure each of these batch sizes: the number of images in one inference.",
    )(command)


seed_option = option(
    TRAINING,
    "--seed",
    type=click.IntRange(0),
    metavar="N",
    default=1,
    show_default=True,
    help="Seed of the random numbers. The same seed trains the same model.",
)


def recipe_options(command: Decorated) -> Decorated:
    """Add --network, --recipe, --epochs and --seed."""
    # Imported here, because a bundle for a board has this module and no lenet_edge.train.
    from lenet_edge.networks import LENET
    from lenet_edge.networks import SUMMARIES as NETWORKS
    from lenet_edge.train.recipe import DEFAULT, RECIPES, SUMMARIES

    summaries = "; ".join(f"{name}: {summary}" for name, summary in SUMMARIES.items())
    for decorator in (
        seed_option,
        option(
            TRAINING,
            "--epochs",
            type=click.IntRange(1),
            metavar="N",
            help="Number of epochs. Default: the recipe's.",
        ),
        option(
            TRAINING,
            "--recipe",
            type=StringChoice(list(RECIPES)),
            default=DEFAULT.name,
            show_default=True,
            help=f"Training settings. {summaries}.",
        ),
        option(
            TRAINING,
            "--network",
            type=StringChoice(list(NETWORKS)),
            default=LENET,
            show_default=True,
            help="Network to train. "
            + "; ".join(f"{name}: {summary}" for name, summary in NETWORKS.items())
            + ".",
        ),
    ):
        command = decorator(command)
    return command


def mlflow_option(command: Decorated) -> Decorated:
    """Add --mlflow: the folder of a local MLflow store."""
    return option(
        OUTPUT,
        "--mlflow",
        type=OutputFolder("mlflow.db", "artifacts/*"),
        metavar="FOLDER",
        help="Also log the training to an MLflow store in FOLDER. Needs the extra mlflow.",
    )(command)


def dataset_options(command: Decorated) -> Decorated:
    """Add --dataset and --data-dir."""
    for decorator in (
        option(
            DATA,
            "--data-dir",
            type=click.Path(path_type=Path, file_okay=False, exists=True),
            help="Folder with the IDX files of Fashion-MNIST. Default: download them.",
        ),
        option(
            DATA,
            "--dataset",
            default="mnist",
            show_default=True,
            type=PathOrName(),
            metavar="NAME|FILE|FOLDER",
            help="mnist, fashion-mnist, a folder with one folder of images for each class, an .npz"
            " file with the arrays x_train, y_train, x_test and y_test, or a CSV file with a label"
            " and the pixels in each row.",
        ),
    ):
        command = decorator(command)
    return command


def calibration_option(command: Decorated) -> Decorated:
    """Add --calibration: images of the user that calibrate and judge the exported files."""
    return option(
        DATA,
        "--calibration",
        type=click.Path(path_type=Path),
        metavar="FILE|FOLDER",
        help="Calibrate int8 with these images, and compare the files on them: an .npz, .npy or"
        " CSV file, or a folder of images. Default: the first 1,000 training images.",
    )(command)


def input_options(command: Decorated) -> Decorated:
    """Add the facts about a model's input, and pass them to the command as `stated`.

    The options are --pixel-scale, --pixel-offset, --mean, --std, --channels, --resize, --labels and
    --input-shape.
    """
    names = ("pixel_scale", "pixel_offset", "mean", "std", "channels", "resize", "labels",
             "input_shapes")  # fmt: skip

    @functools.wraps(command)
    def with_stated(*arguments: Any, **options: Any) -> Any:
        from lenet_edge.artifacts.stated_input import StatedInput

        facts = {name: options.pop(name) for name in names}
        return command(*arguments, stated=StatedInput.parse(facts), **options)

    decorated: Any = with_stated
    for decorator in (
        option(
            INPUT,
            "input_shapes",
            "--input-shape",
            multiple=True,
            metavar="NAME=N,N...",
            help="Shape of an input whose sizes are free, such as x=1,3,48,192. Repeatable.",
        ),
        option(
            INPUT,
            "--labels",
            type=PathOrName(),
            metavar="FILE",
            help="Class names: one in each line, in the order of the outputs, or JSON.",
        ),
        option(
            INPUT,
            "--resize",
            type=StringChoice(list(RESIZE_RULES)),
            help="Fit images by stretching them, by cutting out the centre, or with borders.",
        ),
        option(
            INPUT,
            "--channels",
            type=StringChoice(list(CHANNELS)),
            help="Order of the channels. Default: rgb, or gray for one channel.",
        ),
        option(
            INPUT,
            "--std",
            metavar="X[,X,X]",
            help="Standard deviations, on the scale of --mean.",
        ),
        option(
            INPUT,
            "--mean",
            metavar="X[,X,X]",
            help="Means that are subtracted, for pixels of 0 to 1; for pixels of 0 to 255 if a"
            " mean or a --std is over 1.",
        ),
        option(
            INPUT,
            "--pixel-offset",
            metavar="X[,X,X]",
            help="Add this to each pixel after --pixel-scale, such as -1.",
        ),
        option(
            INPUT,
            "--pixel-scale",
            metavar="X[,X,X]",
            help="Multiply pixels of 0 to 255 by this, such as 1/255. Default: what the file"
            " says or implies, else 1.",
        ),
    ):
        decorated = decorator(decorated)
    result: Decorated = decorated
    return result


def is_given(name: str) -> bool:
    """Return True if the user has given an option of the current command."""
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def check_deployables(
    ctx: click.Context, param: click.Parameter, names: tuple[str, ...]
) -> tuple[str, ...]:
    """Check the names of runtimes that `deploy` can bring to a board.

    The runtime modules declare them. A `StringChoice` would import these modules for ``--help``.

    Raises:
        click.BadParameter: a name is unknown.
    """
    if names:
        from lenet_edge.runtimes import deployables

        choices = [deployable.name for deployable in deployables()]
        for name in names:
            check_choice(name, choices)
    return names
