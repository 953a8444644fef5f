"""What a board does when it is asked: take the files, say what it is, and what it can run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.artifacts.reference import reference_path
from lenet_edge.errors import LenetEdgeError, ModelFileError
from lenet_edge.machine.environment import read_environment
from lenet_edge.results.result_file import Skipped
from lenet_edge.selection import select_pairs
from lenet_edge.support.files import atomic_write, sha256_of


def pack(artifacts: Iterable[Artifact]) -> dict[str, bytes]:
    """Return what a board needs of these files: they and their recorded references, by place.

    Files that lie in one folder here lie in one folder there.
    """
    parcel = {}
    for one in artifacts:
        parcel[place_of(one)] = one.path.read_bytes()
        reference = reference_path(one.path.parent, one.parent_sha256 or one.sha256)
        if reference.exists():
            parcel[f"{Path(place_of(one)).parent}/{reference.name}"] = reference.read_bytes()
    return parcel


def place_of(artifact: Artifact) -> str:
    """Return where a file lies in the parcel."""
    folder = str(artifact.path.parent.absolute()).encode()
    return f"{hashlib.sha256(folder).hexdigest()[:12]}/{artifact.name}"


@worker.function
def unpack(parcel: dict[str, bytes]) -> str:
    """Write the files of a parcel to this worker's own folder, which ends with it; say where."""
    from distributed import get_worker

    folder = Path(get_worker().local_directory, "files")
    for place, content in parcel.items():
        with atomic_write(folder / place) as temporary:
            temporary.write_bytes(content)
    return str(folder)


@worker.function
def look(artifacts: list[dict[str, Any]], how: dict[str, Any]) -> dict[str, Any]:
    """Return what this board is, which pairs it can run, and what it cannot, with the reason.

    Args:
        artifacts: the files, where they lie here.
        how: what `selection.select_pairs` takes beside them.
    """
    files = [Artifact.from_json(one) for one in artifacts]
    for file in files:
        if sha256_of(file.path) != file.sha256:
            raise ModelFileError(f"{file.name} arrived damaged; try again")
    try:
        pairs, skipped = select_pairs(files, **how)
    except LenetEdgeError as error:
        pairs, skipped = [], [Skipped(", ".join(how["names"]) or "any target", str(error))]
    return {
        "environment": asdict(read_environment()),
        "pairs": [(one.artifact.to_json(), asdict(one.target)) for one in pairs],
        "skipped": [asdict(one) for one in skipped],
    }
