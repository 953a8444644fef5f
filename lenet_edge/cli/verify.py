"""lenet-edge verify"""

from __future__ import annotations

from pathlib import Path

import click

from lenet_edge.cli._options import (
    DEFAULT_DIR,
    files_argument,
    json_option,
    num_threads_option,
    target_option,
)
from lenet_edge.cli._terminal import GATE_FAILED, output, progress_bar


@click.command("verify")
@files_argument
@target_option
@num_threads_option
@click.option(
    "--max-accuracy-drop",
    type=click.FloatRange(0, 100),
    default=0.1,
    show_default=True,
    help="Percentage points that a file may lose to the float model.",
)
@json_option
def command(
    files: tuple[Path, ...],
    targets: tuple[str, ...],
    num_threads: int,
    max_accuracy_drop: float,
    json_file: Path | None,
) -> None:
    """Prove that each file is as accurate as the float model.

    FILES are exported models; every one in ./exported if left out. Each answers all 10,000
    test images on every target that is installed. The exit status is 3 when one fails.

    \b
    Example: lenet-edge verify exported/lenet_int8.tflite --target litert
    """
    from lenet_edge.report.terminal import parity_view
    from lenet_edge.results import BenchRun
    from lenet_edge.selection import load_files, pair_up
    from lenet_edge.verify.verify import verify

    pairs, missing = pair_up(load_files(files, DEFAULT_DIR), targets)
    with progress_bar("Verify", len(pairs)) as step:
        reports, failed = verify(pairs, max_accuracy_drop, num_threads, report=step)
    run = BenchRun.here(parity=tuple(reports), skipped=(*missing, *failed))
    output(parity_view(run), run.to_json(), json_file)
    if failed or not all(reports) or not reports:
        raise click.exceptions.Exit(GATE_FAILED)
