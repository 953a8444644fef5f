"""Temporary folders and files. A full disk is reported in one line that names TMPDIR."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from lenet_edge.errors import LenetEdgeError
from lenet_edge.support import lock, portable

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
_FULL_BYTES = 65_536  # a disk with less free space is full


@contextlib.contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """Yield a new folder, and delete it with its content when the block ends.

    The folders of killed processes are deleted as well.

    Args:
        parent: the folder to contain it; by default the system's folder for temporary files.

    Raises:
        LenetEdgeError: the folder cannot be made, or its disk is full.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder, descriptor = _make_locked(parent or Path(tempfile.gettempdir()))
        except OSError as error:
            raise no_room(error) from error
        stack.callback(os.close, descriptor)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            yield folder
        except Exception as error:  # compilers and converters report a full disk in many ways
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                raise no_room(error) from error
            if shutil.disk_usage(folder).free < _FULL_BYTES:
                full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                raise no_room(full) from error
            raise


def _make_locked(parent: Path) -> tuple[Path, int]:
    """Create a folder and lock it; return its path and the descriptor that holds the lock."""
    prefix = f"lenet-edge-{portable.user_id()}-"
    for abandoned in parent.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            descriptor = _lock(abandoned, without_locks=False)
            if descriptor is not None:
                if os.fstat(descriptor).st_uid == portable.user_id():
                    shutil.rmtree(abandoned)
                os.close(descriptor)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        # Another process may delete the folder before it is locked.
        with contextlib.suppress(FileNotFoundError):
            descriptor = _lock(folder)
            if descriptor is not None and folder.exists():
                return folder, descriptor


def _lock(folder: Path, without_locks: bool = True) -> int | None:
    """Lock a folder and return its descriptor; None if another process holds its lock.

    Args:
        folder: the folder.
        without_locks: whether it counts as locked where there are no locks.
    """
    descriptor = os.open(
        folder, os.O_RDONLY | portable.DIRECTORY | portable.NOFOLLOW | portable.CLOEXEC
    )
    if lock.try_lock(descriptor, without_locks):
        return descriptor
    os.close(descriptor)
    return None


def no_room(error: OSError) -> LenetEdgeError:
    """Return the error to raise if a temporary file cannot be written."""
    return LenetEdgeError(
        f"cannot write a temporary file: {error.strerror or error}; set TMPDIR to a folder with"
        " free space"
    )


def memory_file(name: str = "lenet-edge") -> IO[bytes]:
    """Return a temporary file without a path, in memory where the system can do that.

    Args:
        name: the text that /proc shows for the file.
    """
    if hasattr(os, "memfd_create"):  # some builds of Python for old systems lack it
        return os.fdopen(os.memfd_create(name), "w+b")
    return tempfile.TemporaryFile()
