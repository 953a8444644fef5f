"""Real file systems that can lose power, be full or be read-only. Only root can mount them."""

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
    """Unmount a folder. Retry until the last process that uses it has ended."""
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
        OSError: the user is not root, or may not mount.
    """
    folder.mkdir(exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", folder)
    try:
        yield folder
    finally:
        unmount(folder)


def why_no_disk() -> str | None:
    """Return why no `Disk` can be mounted here, or None."""
    if os.geteuid():
        return "only root can mount a disk for power cuts"
    if reason := needs.missing("mkfs.ext4"):
        return reason
    with tempfile.TemporaryDirectory() as name:
        try:
            with Disk(Path(name)):
                return None
        except OSError as error:
            return f"a disk cannot be mounted here: {error}"


class Disk:
    """Folder on a separate ext4 file system whose power can be cut.

    A cut loses all data that the kernel has not written, as a real power cut does. The image is
    copied at that moment and mounted, which replays its journal. The option noauto_da_alloc
    disables ext4's protection of programs that do not sync, because other file systems have none.
    """

    def __init__(self, parent: Path) -> None:
        self.folder = parent / "disk"
        self._image, self._copy = parent / "image", parent / "copy"

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
        """Replace the disk by the copy, as if the power was lost at the moment of the copy."""
        unmount(self.folder)
        self._copy.replace(self._image)
        self._mount()


class Folder:
    """Plain folder, used without a `Disk`. A kill loses no data in the kernel's cache."""

    def __init__(self, parent: Path) -> None:
        self.folder = parent / "folder"

    def __enter__(self) -> Folder:
        self.folder.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def photograph(self) -> None:
        pass

    def cut(self) -> None:
        pass
