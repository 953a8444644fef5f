"""File helpers: atomic replacement of files and folders, streams, logs, SHA-256, the cache."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lenet_edge.errors import LenetEdgeError
from lenet_edge.support import lock, portable
from lenet_edge.support.temporary import temporary_folder

_MAX_LINKS = 40  # the limit of Linux
_LONG_NAME = 120  # bytes; with a prefix, a name of up to this length fits into every file system
_DESCRIPTOR = re.compile(r"/proc/(?P<process>\d+)(?:/task/\d+)?/fd/(?P<number>\d+)")
_HINTS = {
    errno.EISDIR: "name a file",
    errno.ELOOP: "name the file itself",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENXIO: "start its reader first",
    errno.EPIPE: "its reader has ended",
}


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
    block. The new file keeps its mode and, as far as permitted, its owner. If `path` is a symbolic
    link, the file at its end is replaced. Only regular files are replaced: into a character
    device, a FIFO or an open descriptor such as /dev/stdout, the content is written at the end of
    the block. Temporary files of killed processes are deleted.

    Raises:
        LenetEdgeError: the path cannot be written to, or the disk is full.
    """
    with _one_line_errors(path):
        destination = _follow_links(path)
        if destination.is_stream:
            with _copied_into(destination, path.name) as temporary:
                yield temporary
        else:
            with _replacement_of(destination) as temporary:
                yield temporary


@contextlib.contextmanager
def atomic_folder(path: Path, mode: int = 0o777) -> Iterator[Path]:
    """Yield a new folder, and rename it to `path` when the block ends without an exception.

    An existing folder, file or link at `path` is deleted then. It survives a full disk or an
    exception in the block. The caller checks that it may be replaced. A process that is killed
    leaves a folder .tmp-* behind.

    Args:
        path: the folder.
        mode: the mode of the folder, from which the umask is subtracted.

    Raises:
        LenetEdgeError: the path cannot be written to, or the disk is full.
    """
    with _one_line_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".tmp-", dir=path.parent))
        new, old = temporary / "new", temporary / "old"
        try:
            new.mkdir(mode)
            yield new
            if os.path.lexists(path):
                path.rename(old)
            try:
                new.rename(path)
            except OSError:
                if os.path.lexists(old):
                    old.rename(path)
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def is_stream(path: Path) -> bool:
    """Return whether writes go directly into `path`: a device, a FIFO or an open descriptor.

    Raises:
        LenetEdgeError: nothing can be written to the path: it is a folder, a block device or a
            socket, its name is too long, or its symbolic links form a loop.
    """
    with _one_line_errors(path):
        return _follow_links(path).is_stream


def open_stream(path: Path) -> int:
    """Return a descriptor for a path of which `is_stream` is true; the caller closes it.

    Raises:
        LenetEdgeError: it cannot be opened, or it is a FIFO that no process reads.
    """
    with _one_line_errors(path):
        return _open_stream(_follow_links(path))


@dataclass(frozen=True)
class _Destination:
    """The file at the end of all symbolic links, with its status; None if it does not exist."""

    path: Path
    status: os.stat_result | None

    @property
    def descriptor(self) -> re.Match[str] | None:
        """The parts of the path if it names an open descriptor of a process."""
        return _DESCRIPTOR.fullmatch(str(self.path))

    @property
    def is_stream(self) -> bool:
        """True if the content is written into it directly."""
        return self.descriptor is not None or (
            self.status is not None and not stat.S_ISREG(self.status.st_mode)
        )


@contextlib.contextmanager
def _one_line_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        hint = _HINTS.get(error.errno or 0, "check the folder and its free space")
        raise LenetEdgeError(f"cannot write {path}: {reason}; {hint}") from error


def _follow_links(path: Path) -> _Destination:
    """Find the file at the end of a chain of symbolic links.

    `os.path.realpath` would also follow /proc/self/fd/1 to a regular file, which would then be
    replaced instead of written into.

    Raises:
        OSError: the file cannot be written to, or the links form a loop.
    """
    text = str(path)
    for _ in range(_MAX_LINKS):
        folder, name = os.path.split(text)
        folder = os.path.realpath(folder)
        location = os.path.join(folder, name)
        if _DESCRIPTOR.fullmatch(location):
            return _Destination(Path(location), _writable_status(location))
        _check_owner(folder, location)
        if not os.path.islink(location):
            return _Destination(Path(location), _writable_status(location))
        text = os.path.join(folder, os.readlink(location))
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _check_owner(folder: str, location: str) -> None:
    """Refuse the link, file or FIFO of another user in a shared folder such as /tmp.

    The kernel's settings fs.protected_symlinks, protected_regular and protected_fifos do the same
    where they are on.
    """
    try:
        shared, owner = os.stat(folder), os.lstat(location).st_uid
    except FileNotFoundError:
        return
    is_public = shared.st_mode & stat.S_ISVTX and shared.st_mode & stat.S_IWOTH
    if is_public and owner not in (portable.user_id(), shared.st_uid):
        raise OSError(errno.EACCES, f"it belongs to another user, and all can write to {folder}")


def _writable_status(location: str) -> os.stat_result | None:
    try:
        status = os.stat(location)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if stat.S_ISBLK(status.st_mode):
        raise OSError(errno.EINVAL, "it is a block device")
    if stat.S_ISSOCK(status.st_mode) and not _DESCRIPTOR.fullmatch(location):
        raise OSError(errno.EINVAL, "it is a socket")
    return status


@contextlib.contextmanager
def _replacement_of(destination: _Destination) -> Iterator[Path]:
    """Yield a temporary file beside the destination, and rename it after the block."""
    path = destination.path
    path.parent.mkdir(parents=True, exist_ok=True)
    _delete_abandoned_files(path)
    # Nobody else may read the new content of a private file before it has its mode.
    mode = 0o600 if destination.status else 0o666
    with _temporary_file(path, mode) as temporary:
        yield temporary
        _sync(temporary)
        if destination.status:
            _copy_permissions(destination.status, temporary)
        temporary.replace(path)
        _sync(path.parent)  # makes the rename survive a power cut


def _copy_permissions(status: os.stat_result, path: Path) -> None:
    """Give a file the owner and the mode of another, as far as this user is permitted to."""
    descriptor = os.open(path, os.O_RDONLY | portable.NOFOLLOW | portable.CLOEXEC)
    try:
        for owner in (status.st_uid, -1):
            with contextlib.suppress(PermissionError):
                os.fchown(descriptor, owner, status.st_gid)
                break
        mode = status.st_mode & 0o777
        if os.fstat(descriptor).st_gid != status.st_gid:
            # Another group must not get the rights of the old one.
            mode = mode & 0o707 | (mode & 0o007) << 3
        with contextlib.suppress(PermissionError):  # FAT has no modes
            os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _copied_into(destination: _Destination, name: str) -> Iterator[Path]:
    """Yield a temporary path, and write its content into a stream after the block."""
    # Opened before the block: the work in the block would be lost without a reader.
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(open(_open_stream(destination), "wb"))
        with temporary_folder() as folder:
            yield folder / name
            content = stack.enter_context((folder / name).open("rb"))
        for text in (sys.stdout, sys.stderr):
            if text is not None:  # the stream may be the same file
                text.flush()
        shutil.copyfileobj(content, stream)


def _open_stream(destination: _Destination) -> int:
    descriptor, status = destination.descriptor, destination.status
    if descriptor and int(descriptor["process"]) == os.getpid():
        # Opening the path instead would start at the beginning of a redirected file.
        return os.dup(int(descriptor["number"]))
    flags = os.O_WRONLY | os.O_APPEND | portable.NOCTTY | portable.CLOEXEC
    if status is None or not stat.S_ISFIFO(status.st_mode):
        return os.open(destination.path, flags)
    try:
        opened = os.open(destination.path, flags | portable.NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "no process reads this FIFO") from None
        raise
    os.set_blocking(opened, True)
    return opened


def short_name(name: str) -> str:
    """Return a file name, or its hash with the same suffix if it is too long for a prefix."""
    if len(os.fsencode(name)) <= _LONG_NAME:
        return name
    suffix = Path(name).suffix
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return digest + (suffix if len(os.fsencode(suffix)) <= 16 else "")


@contextlib.contextmanager
def _temporary_file(path: Path, mode: int) -> Iterator[Path]:
    """Create an empty file beside `path`, lock it during the block, and delete it afterwards."""
    # Keep the suffix: some writers, such as Keras, choose the file format by it.
    temporary = path.with_name(f".tmp-{secrets.token_hex(4)}-{short_name(path.name)}")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | portable.CLOEXEC, mode)
    try:
        lock.try_lock(descriptor)
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        os.close(descriptor)


def _delete_abandoned_files(path: Path) -> None:
    """Delete the temporary files for `path` that no living process has locked."""
    pattern = f".tmp-????????-{glob.escape(short_name(path.name))}"
    for temporary in path.parent.glob(pattern):
        with contextlib.suppress(OSError), _open_own_file(temporary) as descriptor:
            if lock.try_lock(descriptor, without_locks=False):
                temporary.unlink()


@contextlib.contextmanager
def _open_own_file(path: Path) -> Iterator[int]:
    """Open a regular file of this user; in a shared folder, others can choose its name."""
    descriptor = os.open(path, os.O_RDWR | portable.NOFOLLOW | portable.NONBLOCK | portable.CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != portable.user_id():
            raise PermissionError
        yield descriptor
    finally:
        os.close(descriptor)


def create_log(path: Path) -> BinaryIO:
    """Create a log file that only this user can read, in place of an earlier one.

    A link, a FIFO or a device at `path` is deleted. It is never written into.

    Raises:
        LenetEdgeError: the file cannot be created.
    """
    with _one_line_errors(path):
        path.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | portable.CLOEXEC
        return open(os.open(path, flags, 0o600), "wb")


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


def private_cache_folder(name: str) -> Path:
    """Create the folder for cached files of one kind, and check that others cannot change them.

    Raises:
        LenetEdgeError: the folder cannot be created, it belongs to another user, or other users
            can write to it.
    """
    folder = cache_folder(name)
    try:
        for missing in reversed([f for f in (folder, *folder.parents) if not f.exists()]):
            missing.mkdir(mode=0o700, exist_ok=True)  # with `parents`, the umask alone decides
        status, above = folder.stat(), folder.parent.stat()
        if above.st_uid == portable.user_id() and is_writable_by_others(above):
            folder.parent.chmod(above.st_mode & 0o755)
    except OSError as error:
        raise LenetEdgeError(
            f"no folder for the cache: {error}; set XDG_CACHE_HOME to a folder of yours"
        ) from error
    if status.st_uid != portable.user_id() or is_writable_by_others(status):
        raise LenetEdgeError(f"other users can write to the cache {folder}; delete it")
    return folder


def is_writable_by_others(status: os.stat_result) -> bool:
    """Return whether users other than the owner can write to a folder."""
    return bool(status.st_mode & 0o022)


def cache_folder(name: str) -> Path:
    """Return the folder for cached files of one kind; source: XDG Base Directory.

    Raises:
        LenetEdgeError: the user has no home folder.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")  # the specification ignores relative paths
    if os.path.isabs(base):
        return Path(base, "lenet-edge", name)
    try:
        return Path.home() / ".cache" / "lenet-edge" / name
    except RuntimeError:
        raise LenetEdgeError("there is no home folder; set HOME or XDG_CACHE_HOME") from None
