"""The body of a request while it arrives."""

from __future__ import annotations

import os
import tempfile
from typing import IO, Any

from lenet_edge.support.temporary import memory_file


class Upload:
    """A file in memory that another process opens by its path; a temporary file outside of Linux.

    Passing an image as a message would hold several copies of it, in this process and in the
    decoder. Linux frees the file with its last descriptor, so nothing stays allocated.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self.size = 0

    @property
    def path(self) -> str:
        """The path of the file, for processes of this user."""
        descriptor = self._descriptor()
        name: Any = self._file.name if self._file else None
        return name if isinstance(name, str) else f"/proc/{os.getpid()}/fd/{descriptor}"

    def _descriptor(self) -> int:
        if self._file is None and hasattr(os, "memfd_create"):
            self._file = memory_file("lenet-edge-upload")
        elif self._file is None:
            self._file = tempfile.NamedTemporaryFile(prefix="lenet-edge-upload-")  # noqa: SIM115
        return self._file.fileno()

    def append(self, chunk: bytes) -> None:
        """Write a chunk to the end of the file."""
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(self._descriptor(), rest) :]
        self.size += len(chunk)

    def read(self) -> bytes:
        """Return the content of the file."""
        return os.pread(self._descriptor(), self.size, 0)

    def close(self) -> None:
        """Free the file."""
        if self._file is not None:
            self._file.close()
        self._file, self.size = None, 0
