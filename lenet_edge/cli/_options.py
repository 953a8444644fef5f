"""Options and arguments that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

# A bundle's run.sh says where its files are, wherever it is called from.
DEFAULT_DIR = Path(os.environ.get("LENET_EDGE_EXPORTED", "exported"))
MAX_BATCH_SIZE = 10_000


def files_argument(command: Decorated) -> Decorated:
    """[FILES]...: model files; none means every exported file in ./exported."""
    return click.argument("files", nargs=-1, type=click.Path(path_type=Path))(command)


def json_option(command: Decorated) -> Decorated:
    """--json FILE: the same facts for machines; "-" is standard output."""
    return click.option(
        "json_file",
        "--json",
        type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
        metavar="FILE",
        help='Write the result as JSON too; "-" prints it, and nothing else, on standard output.',
    )(command)


def target_option(command: Decorated) -> Decorated:
    """--target NAME, repeatable: a target, a runtime or a format."""
    return click.option(
        "targets",
        "--target",
        multiple=True,
        metavar="NAME",
        help="A target, a runtime, or a format (tflite, onnx: the best runtime installed)."
        " Repeatable; all that are installed if left out.",
    )(command)


def _delegate_options(
    ctx: click.Context, option: click.Parameter, value: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    for one in value:
        if "=" not in one:
            raise click.BadParameter(f"{one!r} is not KEY=VALUE")
    return tuple((key, rest) for key, _, rest in (one.partition("=") for one in value))


def delegate_options(command: Decorated) -> Decorated:
    """--delegate, --delegate-option and --allow-fallback: who computes, and how much of it."""
    for option in (
        click.option(
            "--allow-fallback",
            is_flag=True,
            help="Accept a delegate or device that leaves nodes to the CPU; that is labelled.",
        ),
        click.option(
            "delegate_options",
            "--delegate-option",
            multiple=True,
            callback=_delegate_options,
            metavar="KEY=VALUE",
            help="What the delegate, or ONNX Runtime's provider, is created with. Repeatable.",
        ),
        click.option(
            "--delegate",
            metavar="PATH|NAME",
            help="Run .tflite files with an external TFLite delegate: its .so file, or armnn,"
            " edgetpu, ethosu, qnn, teflon, vx.",
        ),
    ):
        command = option(command)
    return command


def scheduler_option(command: Decorated) -> Decorated:
    """--scheduler ADDRESS: every board of a fleet does it."""
    return click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Do it on every board of a fleet: the Dask scheduler they are at, such as"
        " tcp://127.0.0.1:8786; see lenet-edge fleet.",
    )(command)


def num_threads_option(command: Decorated) -> Decorated:
    """--num-threads N."""
    return click.option(
        "--num-threads",
        type=click.IntRange(1, 256),
        default=1,
        show_default=True,
        help="Threads for one inference.",
    )(command)


def _batch_sizes(ctx: click.Context, option: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        sizes = tuple(sorted({int(size) for size in value.split(",")}))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 1,8,32") from None
    if sizes[0] < 1 or sizes[-1] > MAX_BATCH_SIZE:
        raise click.BadParameter(f"{value!r}: a batch holds 1 to {MAX_BATCH_SIZE:,} images")
    return sizes


def percent(ctx: click.Context, option: click.Parameter, value: str) -> float:
    """Return the fraction that "5%" or "5" stands for."""
    try:
        found = float(value.removesuffix("%"))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a percentage such as 5%") from None
    if not 0 <= found <= 100:
        raise click.BadParameter(f"{value!r}: 0 to 100 %")
    return found / 100


def batch_size_option(command: Decorated) -> Decorated:
    """--batch-size N,N,...: the batches to measure at."""
    return click.option(
        "batch_sizes",
        "--batch-size",
        callback=_batch_sizes,
        metavar="N,N...",
        default="1,8,32,128",
        show_default=True,
        help="Images in one inference; a list is measured one by one.",
    )(command)


def recipe_options(command: Decorated) -> Decorated:
    """--recipe, --epochs and --seed: how to train."""
    for option in (
        click.option(
            "--seed",
            type=click.IntRange(0),
            default=1,
            show_default=True,
            help="The same seed trains the same model.",
        ),
        click.option("--epochs", type=click.IntRange(1), help="Instead of the recipe's."),
        click.option(
            "--recipe",
            type=click.Choice(["quick", "best", "classic"]),
            default="quick",
            show_default=True,
        ),
    ):
        command = option(command)
    return command


def dataset_options(command: Decorated) -> Decorated:
    """--dataset and --data-dir: which images."""
    for option in (
        click.option(
            "--data-dir",
            type=click.Path(path_type=Path, file_okay=False, exists=True),
            help="Where Fashion-MNIST's IDX files lie; downloaded if left out.",
        ),
        click.option(
            "--dataset",
            default="mnist",
            show_default=True,
            metavar="NAME|FILE.npz|FOLDER",
            help="mnist, fashion-mnist, an .npz of x_train, y_train, x_test, y_test, or a folder"
            " with a folder of images for each class.",
        ),
    ):
        command = option(command)
    return command
