"""Parts: the further files of a model, such as the .bin file of a .param file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lenet_edge import formats
from lenet_edge.errors import ModelFileError, StaleManifestError
from lenet_edge.support.files import sha256_of


@dataclass(frozen=True)
class FilePart:
    """A further file of a model, such as its weights.

    Attributes:
        name: the path relative to the folder of the model file.
    """

    name: str
    sha256: str


def part_paths(path: Path) -> list[Path]:
    """Return the paths of the existing files that hold a part of a model, beside `path` itself.

    Raises:
        ModelFileError: the file is damaged.
    """
    row = formats.format_of(path)
    if row is None or row.parts is None:
        return []
    names: set[str] = formats.load(row.parts)(path)
    own = path.resolve()
    paths = (path.parent / name for name in sorted(names))
    return [each for each in paths if each.is_file() and each.resolve() != own]


def files_of(path: Path) -> dict[str, Path]:
    """Return the file of a model and its parts, by their paths relative to its folder.

    Raises:
        ModelFileError: the file is damaged.
    """
    paths = (path, *part_paths(path))
    return {Path(os.path.relpath(each, path.parent)).as_posix(): each for each in paths}


def size_of(path: Path) -> int:
    """Return the bytes of a model file with all its parts.

    Raises:
        ModelFileError: the file is damaged.
    """
    parts = {each.resolve() for each in part_paths(path)}
    return sum(each.stat().st_size for each in (path, *parts))


def read_parts(path: Path) -> tuple[FilePart, ...]:
    """Return the parts of a model file, with their hashes.

    Raises:
        ModelFileError: the file is damaged.
    """
    files = files_of(path)
    del files[path.name]
    return tuple(FilePart(name, sha256_of(part)) for name, part in files.items())


def check_parts(path: Path, stated: Sequence[FilePart]) -> tuple[FilePart, ...]:
    """Return the parts of a file; both may have new names, because the hashes identify them.

    Args:
        path: the path of the model file.
        stated: the parts that its manifest or its contract states.

    Raises:
        ModelFileError: a part is missing, or is not the stated one.
    """
    actual = read_parts(path)
    names = {part.sha256: part.name for part in stated}
    missing = names.keys() - {part.sha256 for part in actual}
    if not missing:
        return actual
    name = names[min(missing)]
    if len(actual) < len(names):
        raise ModelFileError(f"{path} needs its part {name} in the same folder; copy it too")
    raise StaleManifestError(
        f"{path} has a part ({name}) that is not the described one (the sha256 differs); export"
        " it again, or write its manifest again with: lenet-edge describe"
    )
