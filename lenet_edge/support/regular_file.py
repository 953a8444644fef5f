"""Reading of regular files only. FIFOs would block for ever, and devices never end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from lenet_edge.support import portable


def open_regular_file(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        OSError: the file cannot be opened, or is a folder, a FIFO, a socket or a device. The
            `strerror` says which.
    """
    # O_NONBLOCK: without it, the open of a FIFO waits for a writer.
    descriptor = os.open(path, os.O_RDONLY | portable.NONBLOCK | portable.CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb")
