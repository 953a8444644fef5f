"""Functions that a board of a fleet runs: receive files, and describe the board."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact, is_intact
from lenet_edge.artifacts.parts import files_of
from lenet_edge.artifacts.reference import find_reference
from lenet_edge.errors import LenetEdgeError, ModelFileError
from lenet_edge.machine.environment import read_environment
from lenet_edge.results.result_file import Skipped
from lenet_edge.selection import select_pairs
from lenet_edge.support.files import atomic_write


def read_files(artifacts: Iterable[Artifact]) -> dict[str, bytes]:
    """Read the files that a board needs: the artifacts and their recorded references.

    Returns:
        The content of each file by its path on the board, relative to the board's own folder.
        Files of one folder on the host are in one folder on the board.
    """
    files = {}
    for artifact in artifacts:
        path = path_on_board(artifact)
        for name, part in files_of(artifact.path).items():
            files[f"{Path(path).parent}/{name}"] = part.read_bytes()
        _, reference = find_reference(artifact)
        if reference.exists():
            files[f"{Path(path).parent}/{reference.name}"] = reference.read_bytes()
    return files


def path_on_board(artifact: Artifact) -> str:
    """Return the path of an artifact on a board, relative to the board's own folder."""
    folder = str(artifact.path.parent.absolute()).encode()
    return f"{hashlib.sha256(folder).hexdigest()[:12]}/{artifact.name}"


@worker.function
def write_files(files: dict[str, bytes]) -> str:
    """Write files to the folder of this Dask worker, which Dask deletes with the worker.

    Args:
        files: the contents by path, as `read_files` returns them.

    Returns:
        The path of the folder.
    """
    from distributed import get_worker

    folder = Path(get_worker().local_directory, "files")
    for path, content in files.items():
        with atomic_write(folder / path) as temporary:
            temporary.write_bytes(content)
    return str(folder)


@worker.function
def describe_board(artifacts: list[dict[str, Any]], selection: dict[str, Any]) -> dict[str, Any]:
    """Describe this board and select the pairs that it can run.

    Args:
        artifacts: the artifacts on this board, as `Artifact.to_json` returns them.
        selection: the other arguments of `selection.select_pairs`.

    Returns:
        The fields of the `Environment` ("environment"), of the artifact and target of each pair
        ("pairs"), and of each `Skipped` ("skipped").

    Raises:
        ModelFileError: a file differs from the file that was sent.
    """
    files = [Artifact.from_json(facts) for facts in artifacts]
    for file in files:
        if not is_intact(file):
            raise ModelFileError(f"{file.name} arrived damaged; try again")
    try:
        pairs, skipped = select_pairs(files, **selection)
    except LenetEdgeError as error:
        pairs, skipped = [], [Skipped(", ".join(selection["names"]) or "any target", str(error))]
    return {
        "environment": asdict(read_environment()),
        "pairs": [(pair.artifact.to_json(), asdict(pair.target)) for pair in pairs],
        "skipped": [asdict(skip) for skip in skipped],
    }
