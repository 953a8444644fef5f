"""The command ``lenet-edge verify``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet_edge.cli._console import TERMINAL
from lenet_edge.cli._help import OUTPUT, Command, Section, option
from lenet_edge.cli._options import (
    DEFAULT_DIR,
    delegate_options,
    files_argument,
    input_options,
    json_option,
    num_threads_option,
    scheduler_option,
    target_option,
)
from lenet_edge.cli._outputs import OutputFile, OutputFolder
from lenet_edge.cli._terminal import exit_with, output, say

if TYPE_CHECKING:
    from lenet_edge.artifacts.stated_input import StatedInput
    from lenet_edge.flows.fleet_session import Choice
    from lenet_edge.flows.verify import VerifySettings

_KEYS = ("min-agreement", "max-abs-error", "min-snr-db", "min-cosine")


def _parse_bounds(
    context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> dict[str, dict[str, float]]:
    """Return the bounds of each output; the texts are ``OUTPUT:BOUND=X``.

    Names of outputs may contain colons and equals signs.
    """
    bounds: dict[str, dict[str, float]] = {}
    for text in texts:
        left, _, number = text.rpartition("=")
        output, _, key = left.rpartition(":")
        try:
            limit = float(number)
        except ValueError:
            limit = math.nan
        if not output or key not in _KEYS or not math.isfinite(limit):
            raise click.BadParameter(
                f"{text!r} is not an output, a bound ({', '.join(_KEYS)}) and a number, such as"
                " boxes:min-snr-db=30",
                context,
                parameter,
            )
        bounds.setdefault(output, {})[key.replace("-", "_")] = limit
    return bounds


_BOUNDS, _REFERENCE = "Bounds", "Reference"
_BY_PRECISION = "The default depends on the precision"


@click.command("verify", cls=Command, section=Section.MEASURE, position=1)
@files_argument
@target_option
@num_threads_option
@delegate_options
@scheduler_option
@option(
    _BOUNDS,
    "--max-accuracy-drop",
    type=click.FloatRange(0, 100),
    metavar="PP",
    help=f"Maximum loss of accuracy in percentage points. {_BY_PRECISION} (0.1).",
)
@option(
    _BOUNDS,
    "--min-agreement",
    type=click.FloatRange(0, 100),
    metavar="P",
    help="Minimum percentage of the images for which file and reference predict the same class."
    f" {_BY_PRECISION} (int8: 99).",
)
@option(
    _BOUNDS,
    "--max-abs-error",
    type=click.FloatRange(0),
    metavar="X",
    help=f"Maximum error of a logit. {_BY_PRECISION} (float32: 0.01, int8: any).",
)
@option(
    _BOUNDS,
    "--min-snr-db",
    type=float,
    metavar="DB",
    help="Minimum signal-to-noise ratio of outputs that are no classes."
    f" {_BY_PRECISION} (float32: 60, int8: 20).",
)
@option(
    _BOUNDS,
    "--min-cosine",
    type=click.FloatRange(-1, 1),
    metavar="X",
    help="Minimum cosine between the outputs of both files. Default: any.",
)
@option(
    _BOUNDS,
    "--bound",
    "output_bounds",
    multiple=True,
    callback=_parse_bounds,
    metavar="OUTPUT:BOUND=X",
    help="A bound of one output, such as boxes:min-snr-db=30. Repeatable.",
)
@option(
    _REFERENCE,
    "--reference",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Compare with this model file. Default: the recorded logits of the float model.",
)
@option(
    _REFERENCE,
    "--data",
    type=click.Path(path_type=Path),
    metavar="FILE|FOLDER",
    help="With --reference: use these images, and their labels if there are any: an .npz, .npy or"
    " CSV file, or a folder of images. For other models: an .npz file with an array for each"
    " input. Default: recorded images, or random inputs.",
)
@option(OUTPUT, "--layers", is_flag=True,
        help="Show which layer of a quantized file has the largest error.")  # fmt: skip
@option(
    OUTPUT,
    "--logits",
    "logits_file",
    type=OutputFile(".npz"),
    metavar="FILE.npz",
    help='Write the logits of each pair as an array with the name "FILE on TARGET".',
)
@option(
    OUTPUT,
    "--plots",
    type=OutputFolder("*.png"),
    metavar="DIR",
    help="Draw flipped images, the confusion matrix and the logit errors as PNG files in DIR.",
)
@input_options
@json_option
def command(
    files: tuple[Path, ...],
    targets: tuple[str, ...],
    num_threads: int,
    reference: Path | None,
    data: Path | None,
    delegate: str | None,
    delegate_options: tuple[tuple[str, str], ...],
    allow_fallback: bool,
    layers: bool,
    logits_file: Path | None,
    plots: Path | None,
    scheduler: str | None,
    json_file: Path | None,
    stated: StatedInput,
    output_bounds: dict[str, dict[str, float]],
    **options: float | None,
) -> None:
    """Check that each file is as accurate as the float model.

    FILES are exported models, or any model files with --reference; the default is every file in
    ./exported. Each file runs on all test images and on every installed target. Models with several
    inputs or outputs are compared output by output. The exit status is 3 if a file fails on a
    target, 4 if there are too few images to decide or the input of a file is only assumed, and 1 if
    no runtime here opens one of FILES. A [tool.lenet-edge] section in ./pyproject.toml can hold the
    bounds, with a table for each precision, or for each output ("outputs.NAME").

    \b
    Example: lenet-edge verify exported/lenet_int8.tflite --target litert
    """
    from lenet_edge.flows.fleet_session import Choice
    from lenet_edge.flows.verify import VerifySettings, find_unverified, verdict, verify
    from lenet_edge.report.terminal.parity import parity_view
    from lenet_edge.selection import load_artifacts

    settings = VerifySettings(
        options, num_threads, reference, data, layers, logits_file, plots, stated, output_bounds
    )
    artifacts = load_artifacts(files, DEFAULT_DIR, say, stated)
    choice = Choice(artifacts, targets, delegate, delegate_options, allow_fallback)
    if scheduler:
        _on_fleet(scheduler, choice, settings, json_file)
        return
    run = verify(choice, settings, TERMINAL)
    output(parity_view(run), run.to_json(), json_file)
    left_out = find_unverified(run, choice, all_files=bool(files))
    exit_with(verdict([run], choice, left_out), left_out)


def _on_fleet(
    scheduler: str, choice: Choice, settings: VerifySettings, json_file: Path | None
) -> None:
    """Verify on every board; the command passes only if every board passes."""
    from lenet_edge.flows.verify import verdict, verify_fleet
    from lenet_edge.report.terminal.fleet import fleet_parity_view

    fleet = verify_fleet(scheduler, choice, settings, TERMINAL)
    output(fleet_parity_view(fleet), fleet.to_json(), json_file)
    exit_with(verdict(fleet.runs, choice, complete=not fleet.lost))
