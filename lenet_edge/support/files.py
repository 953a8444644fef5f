"""Files on disk: replaced whole or not at all, known by their hash, cached where users expect."""

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
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            found.update(chunk)
    return found.hexdigest()


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` when the block ends well.

    Whatever was at `path` survives a crash, a power cut, a full disk or an exception in the block.
    What a killed process has left of an earlier try is deleted.

    Raises:
        LenetEdgeError: the folder cannot be written to, or the disk is full.
    """
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _clear_leftovers(path)
            temporary = stack.enter_context(_temporary(path))
            yield temporary
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)  # or the new name may be lost, or come before its content
        except OSError as error:
            reason = error.strerror or str(error)
            raise LenetEdgeError(
                f"cannot write {path}: {reason}; check the folder and its free space"
            ) from error


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Yield the name of an empty file that is locked while it is written, and then deleted."""
    # The suffix stays, because some writers (Keras) choose the format by it.
    temporary = path.with_name(f".tmp-{secrets.token_hex(4)}-{path.name}")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        lock.is_free(descriptor)
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        os.close(descriptor)


def _clear_leftovers(path: Path) -> None:
    for old in path.parent.glob(f".tmp-????????-{glob.escape(path.name)}"):
        with contextlib.suppress(OSError), old.open("r+b") as file:
            if lock.is_free(file.fileno()):  # its writer is gone
                old.unlink()


def remove(path: Path) -> None:
    """Delete a file for good: after a power cut it would otherwise be there again."""
    path.unlink()
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def cache_folder(name: str) -> Path:
    """Return where this user keeps what can be made again; source: XDG Base Directory."""
    base = os.environ.get("XDG_CACHE_HOME", "")  # a relative one is to be ignored
    root = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return root / "lenet-edge" / name
