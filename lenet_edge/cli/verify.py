"""lenet-edge verify"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lenet_edge.cli._options import (
    DEFAULT_DIR,
    delegate_options,
    files_argument,
    json_option,
    num_threads_option,
    scheduler_option,
    target_option,
)
from lenet_edge.cli._terminal import (
    GATE_FAILED,
    INCONCLUSIVE,
    output,
    progress_bar,
    progress_begun,
    say,
)

if TYPE_CHECKING:
    from lenet_edge.artifacts.artifact import Artifact
    from lenet_edge.flows.fleet_session import Choice
    from lenet_edge.results.result_file import ParityReport
    from lenet_edge.selection import Pair
    from lenet_edge.target import Logits
    from lenet_edge.verify.expected import Truth

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
    from lenet_edge.report.terminal import parity_view
    from lenet_edge.results.result_file import BenchRun
    from lenet_edge.selection import load_files, select
    from lenet_edge.support import npz
    from lenet_edge.verify.expected import of_file
    from lenet_edge.verify.verdict import DEFAULTS, read_settings
    from lenet_edge.verify.verify import verify

    if data and not reference:
        raise click.UsageError("--data needs --reference, the file to compare with")
    given = {name: value for name, value in options.items() if value is not None}
    settings = read_settings(Path())
    settings |= {name: {**settings.get(name, {}), **given} for name in DEFAULTS}
    artifacts = load_files(files, DEFAULT_DIR, say)
    if scheduler:
        if reference or layers or plots or logits_file:
            raise click.UsageError(
                "--reference, --layers, --logits and --plots are for one machine, and --scheduler"
                " for many"
            )
        from lenet_edge.flows.fleet_session import Choice

        choice = Choice(artifacts, targets, delegate, delegate_options, allow_fallback)
        _on_fleet(scheduler, choice, settings, num_threads, json_file)
        return
    pairs, missing = select(artifacts, targets, delegate, delegate_options, allow_fallback)
    against = None
    if reference:
        from lenet_edge.data.arrays import load_images

        (other,) = load_files([reference], DEFAULT_DIR)
        against = of_file(other, load_images(data) if data else None, num_threads)

    held: list[Truth] = []
    answered: dict[str, Logits] = {}

    def keep(found: ParityReport, truth: Truth, logits: Logits) -> None:
        held.append(truth)
        answered[f"{found.candidate} on {found.target}"] = logits
        if plots:
            from lenet_edge.report.plots import parity_pictures

            parity_pictures(found, truth.images, logits - truth.logits, truth.class_names, plots)

    with progress_bar("Verify", len(pairs)) as step:
        reports, failed = verify(pairs, settings, num_threads, step, against, keep)
    if layers:
        reports = _with_layers(reports, held, pairs, other if reference else None)
    if logits_file:
        npz.write_arrays(logits_file, answered)
    run = BenchRun.here(parity=tuple(reports), skipped=(*missing, *failed))
    output(parity_view(run), run.to_json(), json_file)
    _judge(reports, bool(failed))


def _judge(reports: Sequence[ParityReport], failed: bool) -> None:
    """End with the exit status that tells what was proven."""
    if failed or not reports or any(one.verdict == "fail" for one in reports):
        raise click.exceptions.Exit(GATE_FAILED)
    if not all(reports):
        raise click.exceptions.Exit(INCONCLUSIVE)


def _on_fleet(
    scheduler: str,
    choice: Choice,
    settings: dict[str, Any],
    num_threads: int,
    json_file: Path | None,
) -> None:
    """Verify on every board; each has to prove it."""
    from lenet_edge.fleet.connection import connect
    from lenet_edge.flows import fleet
    from lenet_edge.report.equal_boards import proofs_view

    with connect(scheduler) as client, progress_begun("Verify") as begin:
        found = fleet.verify(client, choice, settings, num_threads, begin)
    output(proofs_view(found), found.to_json(), json_file)
    failed = [one for run in found.runs for one in run.skipped if one.artifact]
    _judge([one for run in found.runs for one in run.parity], bool(failed or found.lost))


def _with_layers(
    reports: list[ParityReport],
    held: list[Truth],
    pairs: list[Pair],
    reference: Artifact | None,
) -> list[ParityReport]:
    """Return the reports with the layers of each quantized file in the first of its own."""
    import dataclasses

    from lenet_edge.errors import LenetEdgeError
    from lenet_edge.verify.layers import compare_layers, find_sibling

    files = {pair.artifact.sha256: pair.artifact for pair in pairs}
    found, done = [], set()
    for report, truth in zip(reports, held, strict=True):
        file = files[report.candidate_sha256]
        quantized = file.format in ("tflite", "onnx") and file.precision != "float32"
        if quantized and file.sha256 not in done:
            done.add(file.sha256)
            usable = reference is not None and reference.format == file.format
            sibling = reference if reference and usable else find_sibling(file)
            layers = tuple(compare_layers(file, sibling, truth))
            report = dataclasses.replace(report, layers=layers)  # noqa: PLW2901
        found.append(report)
    if not done:
        raise LenetEdgeError(
            "--layers compares quantized .tflite and .onnx files with their float siblings, and"
            " none of these is one"
        )
    return found
