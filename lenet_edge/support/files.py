"""File helpers: atomic replacement, SHA-256 and the cache folder of the user."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from lenet_edge.errors import LenetEdgeError
from lenet_edge.support import lock


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path, and rename it to `path` when the block ends without an exception.

    An existing file at `path` survives a crash, a power cut, a full disk or an exception in the
    block. Temporary files of killed processes are deleted.

    Raises:
        LenetEdgeError: the folder cannot be written to, or the disk is full.
    """
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _delete_abandoned_files(path)
            temporary = stack.enter_context(_temporary_file(path))
            yield temporary
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)  # makes the rename survive a power cut
        except OSError as error:
            reason = error.strerror or str(error)
            raise LenetEdgeError(
                f"cannot write {path}: {reason}; check the folder and its free space"
            ) from error


@contextlib.contextmanager
def _temporary_file(path: Path) -> Iterator[Path]:
    """Create an empty file beside `path`, lock it during the block, and delete it afterwards."""
    # Keep the suffix: some writers, such as Keras, choose the file format by it.
    temporary = path.with_name(f".tmp-{secrets.token_hex(4)}-{path.name}")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        lock.try_lock(descriptor)
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        os.close(descriptor)


def _delete_abandoned_files(path: Path) -> None:
    """Delete the temporary files for `path` that no living process has locked."""
    for temporary in path.parent.glob(f".tmp-????????-{glob.escape(path.name)}"):
        with contextlib.suppress(OSError), temporary.open("r+b") as file:
            if lock.try_lock(file.fileno()):
                temporary.unlink()


def remove(path: Path) -> None:
    """Delete a file and sync its folder, so that a power cut does not bring the file back."""
    path.unlink()
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def cache_folder(name: str) -> Path:
    """Return the folder for cached files of one kind; source: XDG Base Directory."""
    base = os.environ.get("XDG_CACHE_HOME", "")  # the specification ignores relative paths
    root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return root / "lenet-edge" / name
