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

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
_FULL_BYTES = 65_536  # a disk with less free space is full


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a new folder, and delete it with its content when the block ends.

    Raises:
        LenetEdgeError: the folder cannot be made, or its disk is full.
    """
    with contextlib.ExitStack() as stack:
        try:
            name = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="lenet-edge-", ignore_cleanup_errors=True)
            )
        except OSError as error:
            raise no_room(error) from error
        try:
            yield Path(name)
        except Exception as error:  # compilers and converters report a full disk in many ways
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                raise no_room(error) from error
            if shutil.disk_usage(name).free < _FULL_BYTES:
                full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                raise no_room(full) from error
            raise


def no_room(error: OSError) -> LenetEdgeError:
    """Return the error to raise if a temporary file cannot be written."""
    return LenetEdgeError(
        f"cannot write a temporary file: {error.strerror or error}; set TMPDIR to a folder with"
        " free space"
    )


def memory_file() -> IO[bytes]:
    """Return a nameless temporary file, in memory where the system can do that."""
    if hasattr(os, "memfd_create"):  # some builds of Python for old systems lack it
        return os.fdopen(os.memfd_create("lenet-edge"), "w+b")
    return tempfile.TemporaryFile()
