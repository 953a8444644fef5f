"""The body of a request while it arrives."""

from __future__ import annotations

import os


class Upload:
    """A file in memory that another process opens by its path.

    Passing an image as a message would hold several copies of it, in this process and in the
    decoder. Linux frees the file with its last descriptor, so nothing stays allocated.
    """

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self.size = 0

    @property
    def path(self) -> str:
        """The path of the file, for processes of this user."""
        return f"/proc/{os.getpid()}/fd/{self._open()}"

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = os.memfd_create("lenet-edge-upload")
        return self._descriptor

    def append(self, chunk: bytes) -> None:
        """Write a chunk to the end of the file."""
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(self._open(), rest) :]
        self.size += len(chunk)

    def read(self) -> bytes:
        """Return the content of the file."""
        return os.pread(self._open(), self.size, 0)

    def close(self) -> None:
        """Free the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self.size = None, 0
