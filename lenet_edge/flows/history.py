"""The history of all result files below a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from lenet_edge.errors import DataError
from lenet_edge.report.history import Series, build_history
from lenet_edge.results.formatting import plural
from lenet_edge.results.result_file import BenchRun, load_runs


def read_history(folder: Path, note: Callable[[str], None]) -> list[Series]:
    """Read all result files below a folder; return the figures of each cell over time.

    Files that are no result files are counted in a note. Links to folders are not followed.

    Args:
        folder: the folder, or a single result file.
        note: called with a line of text.

    Raises:
        DataError: there is no result file.
    """
    if not folder.exists():
        raise DataError(f"{folder}: no such folder; give the folder of result files")
    paths = _json_files(folder) if folder.is_dir() else [folder]
    runs: list[BenchRun] = []
    others = 0
    for path in paths:
        try:
            runs += load_runs(path)
        except DataError:
            others += 1
    if not runs:
        raise DataError(
            f"{folder} has no result files; write one for each commit, with: lenet-edge bench"
            f" --json {folder}/COMMIT.json"
        )
    if others:
        note(f"Left out {plural(others, 'file')} without results")
    return build_history(runs)


def _json_files(folder: Path) -> list[Path]:
    return sorted(
        path
        for parent, _, names in os.walk(folder)
        for name in names
        if name.endswith(".json") and (path := Path(parent, name)).is_file()
    )
