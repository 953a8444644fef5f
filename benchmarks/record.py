"""Verify and bench exported/ on this machine, and keep the result: python -m benchmarks.record

It lands in benchmarks/results/<machine>/<time>-<commit>.json.
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
EXPORTED = Path(os.path.relpath(ROOT / "exported"))  # a result names no machine's folders


def main() -> None:
    # C files are run only where they are named.
    files = sorted(path for path in EXPORTED.iterdir() if path.suffix in BY_SUFFIX)
    pairs, missing = pair_up(load_artifacts(files, EXPORTED), ())
    with progress_bar("Verify", len(pairs)) as step:
        parity, wrong = verify(pairs, report=step)
    planned = plan.Plan(plan.expand(pairs, plan.DEFAULT_BATCH_SIZES))
    with progress_bar("Bench", len(planned.steps())) as step:
        timed = run_plan(planned, report=step, skipped=(*missing, *wrong))
    run = dataclasses.replace(timed, parity=tuple(parity))
    path = run.default_path(RESULTS)
    run.save(path)
    show(summary_view(run))
    print(f"Kept in {path.relative_to(ROOT)}")


def keep(name: str, facts: dict[str, Any]) -> Path:
    """Write other results than a `BenchRun`, with machine, versions and commit, and say where."""
    here = BenchRun.of_this_machine()
    about = {
        "schema_version": 1,
        "created_at": here.created_at,
        "git_commit": here.git_commit,
        "environment": dataclasses.asdict(here.environment),
    }
    path = here.default_path(RESULTS)
    path = path.with_name(f"{path.stem}-{name}.json")
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps({**about, **facts}, indent=1) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
