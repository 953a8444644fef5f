"""Parity and latency of exported/ on this machine: python -m benchmarks.record

Writes benchmarks/results/<machine>/<time>-<commit>.json.
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from lenet_edge.bench import plan
from lenet_edge.bench.run_plan import run_plan
from lenet_edge.cli._terminal import progress_bar, show
from lenet_edge.formats import BY_SUFFIX
from lenet_edge.report.terminal.summary import summary_view
from lenet_edge.results.result_file import BenchRun
from lenet_edge.selection import load_artifacts, pair_up
from lenet_edge.support.files import atomic_write
from lenet_edge.verify.verify import verify

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
EXPORTED = Path(os.path.relpath(ROOT / "exported"))  # results hold no absolute paths


def main() -> None:
    # The files are named one by one: a folder would leave out the C files.
    files = sorted(path for path in EXPORTED.iterdir() if path.suffix in BY_SUFFIX)
    pairs, missing = pair_up(load_artifacts(files, EXPORTED), ())
    with progress_bar("Verify", len(pairs)) as step:
        parity, wrong = verify(pairs, on_progress=step)
    planned = plan.Plan(plan.expand(pairs, plan.DEFAULT_BATCH_SIZES))
    with progress_bar("Bench", len(planned.steps())) as step:
        timed = run_plan(planned, step, extend=step.extend, skipped=(*missing, *wrong))
    run = dataclasses.replace(timed, parity=tuple(parity))
    path = run.default_path(RESULTS)
    run.save(path)
    show(summary_view(run))
    print(f"Kept in {path.relative_to(ROOT)}")


def keep(name: str, facts: dict[str, Any]) -> Path:
    """Write results that are no `BenchRun`, with machine, versions and commit; return the path."""
    run = BenchRun.of_this_machine()
    about = {
        "schema_version": 1,
        "created_at": run.created_at,
        "git_commit": run.git_commit,
        "environment": dataclasses.asdict(run.environment),
    }
    path = run.default_path(RESULTS)
    path = path.with_name(f"{path.stem}-{name}.json")
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps({**about, **facts}, indent=1) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
