"""Extraction of a bundle, on every Python: `extractall` has no filter before Python 3.11.4."""

from __future__ import annotations

import tarfile
from pathlib import Path


def unpack(archive: Path, folder: Path) -> None:
    """Extract an archive of plain files and folders.

    Raises:
        ValueError: the archive holds a link, a device, or a path outside of the folder.
    """
    folder = folder.resolve()
    with tarfile.open(archive) as opened:
        for member in opened:
            path = (folder / member.name).resolve()
            if not path.is_relative_to(folder):
                raise ValueError(f"{member.name} lies outside of the folder")
            if member.isdir():
                path.mkdir(parents=True, exist_ok=True)
            elif member.isreg():
                path.parent.mkdir(parents=True, exist_ok=True)
                content = opened.extractfile(member)
                assert content
                path.write_bytes(content.read())
                path.chmod(member.mode & 0o777)
            else:
                raise ValueError(f"{member.name} is neither a file nor a folder")
