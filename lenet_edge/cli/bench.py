"""lenet-edge bench"""

from __future__ import annotations

from pathlib import Path

import click

from lenet_edge.cli._options import (
    DEFAULT_DIR,
    batch_size_option,
    files_argument,
    json_option,
    num_threads_option,
    target_option,
)
from lenet_edge.cli._terminal import output, progress_bar, say


@click.command("bench")
@files_argument
@target_option
@batch_size_option
@num_threads_option
@json_option
def command(
    files: tuple[Path, ...],
    targets: tuple[str, ...],
    batch_sizes: tuple[int, ...],
    num_threads: int,
    json_file: Path | None,
) -> None:
    """Measure the latency of each file, batch by batch.

    FILES are exported models; every one in ./exported if left out. Each figure comes from a
    fresh process. What is timed is inference alone; quantizing the input and reading the
    output are measured apart (see --json).

    \b
    Example: lenet-edge bench --target tflite --batch-size 1,8,32
    """
    from lenet_edge.bench import plan
    from lenet_edge.errors import TargetError
    from lenet_edge.report.terminal import bench_view
    from lenet_edge.results import BenchRun
    from lenet_edge.selection import load_files, pair_up

    pairs, missing = pair_up(load_files(files, DEFAULT_DIR), targets)
    say(f"Targets: {', '.join(sorted({pair.target.name for pair in pairs})) or 'none'}")
    cells = plan.expand(pairs, batch_sizes, num_threads)
    with progress_bar("Bench", len(cells)) as step:
        measurements, failed = plan.run(cells, report=step)
    run = BenchRun.here(tuple(measurements), skipped=(*missing, *failed))
    output(bench_view(run), run.to_json(), json_file)
    if not measurements:
        raise TargetError("nothing could be measured; the reasons are above")
