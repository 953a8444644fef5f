"""The table of SECURITY.md: python -m tests.hostile --count 2000 --jobs 2 --json hostile.json."""

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
@click.option("--count", default=2000, show_default=True, help="Files to make.")
@click.option("--first", default=0, show_default=True, help="Begin with this one.")
@click.option("--seed", default=1, show_default=True)
@click.option("--jobs", default=1, show_default=True, help="Processes at a time.")
@click.option("--images", default=1000, show_default=True, help="Spoilt images to upload.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all of it.")
def main(count: int, first: int, seed: int, jobs: int, images: int, json_file: Path | None) -> None:
    """Send hostile files through inspect, verify, bench, predict and serve; exit 1 if one wins."""
    numbers = range(first, first + count)
    with ThreadPoolExecutor(jobs) as pool:
        parts = pool.map(lambda job: _watched(seed, numbers[job::jobs]), range(jobs))
        found = [outcome for part in parts for outcome in part]
    sent = list(uploads(seed, range(first, first + images)))
    _show(found, sent)
    if json_file:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False
        )
        facts = {
            "git_commit": commit.stdout.strip() or None, "seed": seed, "first": first,
            "outcomes": [asdict(one) for one in found],
            "uploads": [{"how": how, "status": status, "seconds": s} for how, status, s in sent],
        }  # fmt: skip
        json_file.write_text(json.dumps(facts, indent=1) + "\n")
    if any(one.wrong for one in found) or any(status >= 500 for _, status, _ in sent):
        raise SystemExit(1)


def _watched(seed: int, numbers: range) -> list[Outcome]:
    found = []
    for outcome in run(seed, numbers):
        found.append(outcome)
        if outcome.wrong:
            click.echo(
                f"file {outcome.number} ({outcome.format}: {outcome.how}), {outcome.command}:"
                f" {outcome.wrong}", err=True,
            )  # fmt: skip
        elif len(found) % 250 == 0:
            click.echo(f"{len(found)} of {len(numbers) * len(COMMANDS)} commands", err=True)
    return found


def _show(found: list[Outcome], sent: list[tuple[str, int, float]]) -> None:
    head = ("format", "files", "commands", "refused", "taken", "wrong", "worst s", "where")
    rows: list[tuple[str, ...]] = [head]
    for format in [*SHARES, "all"]:
        some = [one for one in found if format in (one.format, "all")]
        if not some:
            continue
        worst = max(some, key=lambda one: one.seconds)
        counts = Counter("wrong" if one.wrong else bool(one.status) for one in some)
        rows.append((
            format, *map(str, (len({one.number for one in some}), len(some), counts[True],
            counts[False], counts["wrong"], f"{worst.seconds:.1f}")), worst.command,
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
