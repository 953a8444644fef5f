"""Hostile files for the table of SECURITY.md: ``python -m tests.hostile --count 2000 --jobs 2``."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import click

from tests.hostile.mutate import COMMANDS, SHARES
from tests.hostile.run import Outcome, run, uploads


@click.command()
@click.option("--count", default=2000, show_default=True, help="Number of files.")
@click.option("--first", default=0, show_default=True, help="Number of the first file.")
@click.option("--seed", default=1, show_default=True)
@click.option("--jobs", default=1, show_default=True, help="Number of processes.")
@click.option("--images", default=1000, show_default=True, help="Damaged images to upload.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every outcome.")
def main(count: int, first: int, seed: int, jobs: int, images: int, json_file: Path | None) -> None:
    """Send hostile files through inspect, verify, bench, predict and serve; exit 1 after harm."""
    numbers = range(first, first + count)
    with ThreadPoolExecutor(jobs) as pool:
        parts = pool.map(lambda job: _run_part(seed, numbers[job::jobs]), range(jobs))
        outcomes = [outcome for part in parts for outcome in part]
    sent = list(uploads(seed, range(first, first + images)))
    _print_table(outcomes, sent)
    if json_file:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False
        )
        facts = {
            "git_commit": commit.stdout.strip() or None, "seed": seed, "first": first,
            "outcomes": [asdict(outcome) for outcome in outcomes],
            "uploads": [{"how": how, "status": status, "seconds": s} for how, status, s in sent],
        }  # fmt: skip
        json_file.write_text(json.dumps(facts, indent=1) + "\n")
    if any(outcome.fault for outcome in outcomes) or any(status >= 500 for _, status, _ in sent):
        raise SystemExit(1)


def _run_part(seed: int, numbers: range) -> list[Outcome]:
    outcomes = []
    for outcome in run(seed, numbers):
        outcomes.append(outcome)
        if outcome.fault:
            click.echo(
                f"file {outcome.number} ({outcome.format}: {outcome.how}), {outcome.command}:"
                f" {outcome.fault}", err=True,
            )  # fmt: skip
        elif len(outcomes) % 250 == 0:
            click.echo(f"{len(outcomes)} of {len(numbers) * len(COMMANDS)} commands", err=True)
    return outcomes


def _print_table(outcomes: list[Outcome], sent: list[tuple[str, int, float]]) -> None:
    head = ("format", "files", "commands", "refused", "accepted", "faults", "slowest s", "command")
    rows: list[tuple[str, ...]] = [head]
    for format in [*SHARES, "all"]:
        some = [outcome for outcome in outcomes if format in (outcome.format, "all")]
        if not some:
            continue
        slowest = max(some, key=lambda outcome: outcome.seconds)
        counts = Counter("fault" if outcome.fault else bool(outcome.status) for outcome in some)
        rows.append((
            format, *map(str, (len({outcome.number for outcome in some}), len(some), counts[True],
            counts[False], counts["fault"], f"{slowest.seconds:.1f}")), slowest.command,
        ))  # fmt: skip
    widths = [max(len(row[place]) for row in rows) for place in range(len(head))]
    for row in rows:
        click.echo("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    if sent:
        statuses = Counter(status for _, status, _ in sent)
        click.echo(f"uploads: {len(sent)}, statuses {dict(sorted(statuses.items()))}, worst"
                   f" {max(seconds for *_, seconds in sent):.2f} s")  # fmt: skip


if __name__ == "__main__":
    main()
