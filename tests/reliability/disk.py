"""Disks to lose power, to be full or read-only: real file systems, which only root can mount."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests import needs

_SIZE_BYTES = 24 * 2**20


def _run(*command: str | Path) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{command[0]}: {' '.join(done.stderr.split())}")


def unmount(folder: Path) -> None:
    """Unmount, when the last of the processes there is really gone."""
    for tries_left in range(50, -1, -1):
        try:
            _run("umount", folder)
            return
        except OSError:
            if not tries_left:
                raise
            time.sleep(0.1)


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """Mount a file system in memory.

    Raises:
        OSError: this is not root, or may not mount.
    """
    folder.mkdir(exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", folder)
    try:
        yield folder
    finally:
        unmount(folder)


def why_no_disk() -> str | None:
    """Return why a `Disk` cannot be had here, or None."""
    if os.geteuid():
        return "only root can mount a disk to cut the power of"
    if reason := needs.missing("mkfs.ext4"):
        return reason
    with tempfile.TemporaryDirectory() as name:
        try:
            with Disk(Path(name)):
                return None
        except OSError as error:
            return f"a disk cannot be mounted here: {error}"


class Disk:
    """A folder on an ext4 of its own, whose power can be cut.

    What the kernel has not yet written to the disk is then lost, as it is where the power really
    goes: the image is copied as it is at that moment, and mounted, which replays its journal. ext4
    is told not to save careless programs (noauto_da_alloc), as other file systems do not either.
    """

    def __init__(self, place: Path) -> None:
        self.folder = place / "disk"
        self._image, self._copy = place / "image", place / "copy"

    def __enter__(self) -> Disk:
        with self._image.open("wb") as file:
            file.truncate(_SIZE_BYTES)
        _run("mkfs.ext4", "-q", self._image)
        self.folder.mkdir()
        self._mount()
        return self

    def _mount(self) -> None:
        _run("mount", "-o", "loop,noauto_da_alloc", self._image, self.folder)

    def __exit__(self, *_: object) -> None:
        unmount(self.folder)

    def photograph(self) -> None:
        """Copy the disk as it is now, without what is still in memory."""
        _run("cp", "--sparse=always", self._image, self._copy)

    def cut(self) -> None:
        """Put the copy in the disk's place: the power was lost when it was made."""
        unmount(self.folder)
        self._copy.replace(self._image)
        self._mount()


class Folder:
    """Where there is no `Disk`: a kill loses nothing that the kernel has taken."""

    def __init__(self, place: Path) -> None:
        self.folder = place / "folder"

    def __enter__(self) -> Folder:
        self.folder.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def photograph(self) -> None:
        pass

    def cut(self) -> None:
        pass
