"""Locks between processes: one command writes into a folder, one command measures on a machine.

The lock is an flock, which the kernel releases when its process ends. A lock is therefore never
stale. The lock file names the holder for waiting commands, and the holder deletes it at the end.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import platform
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

from lenet_edge.errors import LenetEdgeError
from lenet_edge.support import portable

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # on Windows; commands then do not wait for each other
    fcntl = None

_POLL_S = 0.2
# NFS and FUSE may not support locks. Working without a lock is better than not working.
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


def folder_lock_path(folder: Path) -> Path:
    """Return the lock file for commands that write into a folder."""
    return folder / ".lenet-edge.lock"


def machine_lock_path() -> Path:
    """Return the lock file for commands of this user that measure on this machine."""
    # Not in the home folder: several machines may share it over NFS.
    runtime_folder = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{portable.user_id()}"
    folder = runtime_folder if os.path.isdir(runtime_folder) else tempfile.gettempdir()
    return Path(folder, f"lenet-edge-{portable.user_id()}.lock")


@contextlib.contextmanager
def hold(
    path: Path, command: str, wait: Callable[[str], None] = lambda holder: None
) -> Iterator[None]:
    """Hold the lock at `path` during the block; wait until no other process holds it.

    Args:
        path: from `folder_lock_path` or `machine_lock_path`.
        command: the name of this command, which waiting commands print.
        wait: called with a description of the holder, once for each new holder.

    Raises:
        LenetEdgeError: the lock file cannot be created.
    """
    reported = None
    while (descriptor := _open_locked(path)) is None:
        holder = _describe_holder(path)
        if holder != reported:
            wait(holder)
            reported = holder
        time.sleep(_POLL_S)
    facts = {"command": command, "pid": os.getpid(), "host": platform.node(), "since": time.time()}
    try:
        with contextlib.suppress(OSError):  # on a full disk the lock works without a description
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(facts).encode())
        yield
    finally:
        # Unlink before unlocking: a waiter that locks the deleted inode detects it and retries.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _open_locked(path: Path) -> int | None:
    """Open and lock the lock file; return None if another process holds the lock."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | portable.CLOEXEC | portable.NOFOLLOW
            descriptor = os.open(path, flags, 0o644)
        except OSError as error:
            raise LenetEdgeError(
                f"cannot write into {path.parent}: {error.strerror}; check the folder and its"
                " free space"
            ) from error
        try:
            _check_lock_file(descriptor, path)
        except LenetEdgeError:
            os.close(descriptor)
            raise
        if not try_lock(descriptor):
            os.close(descriptor)
            return None
        if _is_still_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # the previous holder has just deleted this file


def _check_lock_file(descriptor: int, path: Path) -> None:
    """Refuse a lock file that another user has prepared in a shared folder such as /tmp.

    Raises:
        LenetEdgeError: the file belongs to another user there; or it is a FIFO, a device or a
            second name of a file, which the description of the holder would overwrite.
    """
    status, folder = os.fstat(descriptor), path.parent.stat()
    owners = (portable.user_id(), folder.st_uid)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        problem = "is not a regular file with one name"
    elif folder.st_mode & stat.S_ISVTX and status.st_uid not in owners:
        problem = "belongs to another user"
    else:
        return
    raise LenetEdgeError(f"the lock file {path} {problem}; delete it")


def try_lock(descriptor: int, without_locks: bool = True) -> bool:
    """Lock an open file without waiting; return False if another process has locked it.

    Args:
        descriptor: the open file.
        without_locks: the result on systems and file systems without locks.
    """
    if fcntl is None:
        return without_locks
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return without_locks and error.errno in _UNSUPPORTED
    return True


def _is_still_at(descriptor: int, path: Path) -> bool:
    """Return whether `path` still names the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _read_start(path: Path) -> str:
    """Return the first 2,000 bytes of a lock file, without waiting for the writer of a FIFO."""
    descriptor = os.open(
        path, os.O_RDONLY | portable.NOFOLLOW | portable.NONBLOCK | portable.CLOEXEC
    )
    try:
        return os.read(descriptor, 2000).decode()
    finally:
        os.close(descriptor)


def _describe_holder(path: Path) -> str:
    """Return the description of the holder; any user may have written into the lock file."""
    try:
        facts = json.loads(_read_start(path))
        since = datetime.datetime.fromtimestamp(facts["since"]).strftime("%H:%M")
        host = f" on {facts['host'][:100]}" if facts["host"] != platform.node() else ""
        holder = f"{facts['command'][:200]} (process {int(facts['pid'])}{host})"
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return "another process holds the lock"
    printable = "".join(character for character in holder if character.isprintable())
    return f"{printable} has held the lock since {since}"
