"""lenet-edge verify"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet_edge.cli._console import TERMINAL
from lenet_edge.cli._options import (
    DEFAULT_DIR,
    delegate_options,
    files_argument,
    json_option,
    num_threads_option,
    scheduler_option,
    target_option,
)
from lenet_edge.cli._terminal import GATE_FAILED, INCONCLUSIVE, output, say

if TYPE_CHECKING:
    from lenet_edge.flows.fleet_session import Choice
    from lenet_edge.flows.verify import VerifySettings

_BY_PRECISION = "Its default goes by precision"


@click.command("verify")
@files_argument
@target_option
@num_threads_option
@click.option(
    "--max-accuracy-drop",
    type=click.FloatRange(0, 100),
    help=f"Percentage points that a file may lose. {_BY_PRECISION} (0.1).",
)
@click.option(
    "--min-agreement",
    type=click.FloatRange(0, 100),
    help=f"Percent of the images with the same top class. {_BY_PRECISION} (int8: 99).",
)
@click.option(
    "--max-abs-error",
    type=click.FloatRange(0),
    help=f"How far off a logit may be. {_BY_PRECISION} (float32: 0.01, int8: any).",
)
@click.option(
    "--reference",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Compare with this model file, not with the recorded float model.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.npz",
    help="With --reference: its images, and labels if there are any.",
)
@delegate_options
@click.option("--layers", is_flag=True, help="Show which layer of a quantized file is worst.")
@click.option(
    "--logits",
    "logits_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.npz",
    help='Write what each file answered, as arrays named "FILE on TARGET".',
)
@click.option(
    "--plots",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Draw flipped images, confusion matrix and logit errors as PNG files.",
)
@scheduler_option
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
    **options: float | None,
) -> None:
    """Prove that each file is as accurate as the float model.

    FILES are exported models, or anybody's with --reference; every one in ./exported if left
    out. Each answers all test images on every target that is installed. The exit status is 3
    when one fails, 4 when there are too few images to tell. A [tool.lenet-edge] section in
    ./pyproject.toml may hold the bounds, and tables of them for each precision.

    \b
    Example: lenet-edge verify exported/lenet_int8.tflite --target litert
    """
    from lenet_edge.flows.fleet_session import Choice
    from lenet_edge.flows.verify import VerifySettings, verdict, verify
    from lenet_edge.report.terminal import parity_view
    from lenet_edge.selection import load_files

    settings = VerifySettings(options, num_threads, reference, data, layers, logits_file, plots)
    artifacts = load_files(files, DEFAULT_DIR, say)
    choice = Choice(artifacts, targets, delegate, delegate_options, allow_fallback)
    if scheduler:
        _on_fleet(scheduler, choice, settings, json_file)
        return
    run = verify(choice, settings, TERMINAL)
    output(parity_view(run), run.to_json(), json_file)
    _end(verdict([run]))


def _on_fleet(
    scheduler: str, choice: Choice, settings: VerifySettings, json_file: Path | None
) -> None:
    """Verify on every board; each has to prove it."""
    from lenet_edge.flows.verify import verdict, verify_fleet
    from lenet_edge.report.equal_boards import proofs_view

    fleet = verify_fleet(scheduler, choice, settings, TERMINAL)
    output(proofs_view(fleet), fleet.to_json(), json_file)
    _end(verdict(fleet.runs, complete=not fleet.lost))


def _end(verdict: str) -> None:
    """End with the exit status of a verdict."""
    if verdict != "pass":
        raise click.exceptions.Exit(GATE_FAILED if verdict == "fail" else INCONCLUSIVE)
