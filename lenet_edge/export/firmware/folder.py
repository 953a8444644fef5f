"""Writing of a folder: whole or not at all, and never over the files of somebody else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from lenet_edge.errors import LenetEdgeError
from lenet_edge.support.files import atomic_folder

# The list of the files that lenet-edge wrote, with their hashes.
LIST = "lenet-edge.json"
# Folders that build systems make in it.
_BUILDS = ("build", ".cache")


def write(path: Path, files: Mapping[str, str]) -> None:
    """Write a folder whole or not at all.

    A folder of an earlier export is replaced if nobody has changed it since. The folders of builds
    in it are deleted.

    Args:
        path: the folder.
        files: the texts by their paths in the folder.

    Raises:
        LenetEdgeError: the folder has other files, or cannot be written.
    """
    check_replaceable(path)
    with atomic_folder(path) as folder:
        for name, text in files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        hashes = {name: _hash(text.encode()) for name, text in sorted(files.items())}
        listed = json.dumps({"files": hashes}, indent=2) + "\n"
        (folder / LIST).write_text(listed, encoding="utf-8")


def check_replaceable(path: Path) -> None:
    """Check that a path is free, or a folder of lenet-edge that nobody has changed.

    Raises:
        LenetEdgeError: it is anything else.
    """
    if not path.exists() and not path.is_symlink():
        return
    advice = "move it away, or choose another --output-dir"
    try:
        if path.is_symlink() or not path.is_dir():
            raise LenetEdgeError(f"{path} is no folder; {advice}")
        listed = json.loads((path / LIST).read_text(encoding="utf-8"))["files"]
        for file in sorted(path.rglob("*")):
            name = file.relative_to(path)
            if name.parts[0] in _BUILDS or name.as_posix() == LIST:
                continue
            if file.is_symlink() or (
                not file.is_dir() and listed.get(name.as_posix()) != _hash(file.read_bytes())
            ):
                raise LenetEdgeError(f"{path} has a changed or added file, {name}; {advice}")
    except FileNotFoundError:
        raise LenetEdgeError(f"{path} is not a folder that lenet-edge wrote; {advice}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LenetEdgeError(f"{path} cannot be replaced ({error}); {advice}") from None


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
