"""One at a time: who writes into a folder, and who measures on this machine.

A lock is the kernel's (flock): it ends with its process, however that ends, so that none is ever
stale. The file it is on says who holds it, for those who wait, and goes with its holder.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lenet_edge.errors import LenetEdgeError

_POLL_S = 0.2
# NFS and FUSE may have no locks; to work without them is better than not at all.
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


def of_folder(folder: Path) -> Path:
    """Return the lock file of what is written into a folder."""
    return folder / ".lenet-edge.lock"


def of_machine() -> Path:
    """Return the lock file of what is timed by this user on this machine."""
    # Not in the user's home, which may be many machines' (NFS).
    own = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    folder = own if os.path.isdir(own) else tempfile.gettempdir()
    return Path(folder, f"lenet-edge-{os.getuid()}.lock")


@contextlib.contextmanager
def hold(
    path: Path, command: str, wait: Callable[[str], None] = lambda holder: None
) -> Iterator[None]:
    """Hold the lock at `path`, once every other process has let it go.

    Args:
        path: from `of_folder` or `of_machine`.
        command: what others are told of this process.
        wait: called with who holds it, whenever that is somebody new.

    Raises:
        LenetEdgeError: the file cannot be made.
    """
    told = None
    while (descriptor := _take(path)) is None:
        holder = _holder(path)
        if holder != told:
            wait(holder)
            told = holder
        time.sleep(_POLL_S)
    about = {"command": command, "pid": os.getpid(), "host": platform.node(), "since": time.time()}
    try:
        with contextlib.suppress(OSError):  # a full disk: the lock holds without its words
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(about).encode())
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # still locked: who gets hold of this one sees that it is gone
        os.close(descriptor)


def _take(path: Path) -> int | None:
    """Return a descriptor that holds the lock, or None while another does."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(path, flags, 0o644)
        except OSError as error:
            raise LenetEdgeError(
                f"cannot write into {path.parent}: {error.strerror}; check the folder and its"
                " free space"
            ) from error
        if not is_free(descriptor):
            os.close(descriptor)
            return None
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # its holder has just gone, and has taken it along


def is_free(descriptor: int) -> bool:
    """Lock an open file, and tell whether that was possible: no other process holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _UNSUPPORTED
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    """Return who holds a lock, in words; anybody may have written into the file."""
    try:
        about = json.loads(path.read_text(encoding="utf-8")[:2000])
        since = datetime.datetime.fromtimestamp(about["since"]).strftime("%H:%M")
        elsewhere = f" on {about['host'][:100]}" if about["host"] != platform.node() else ""
        who = f"{about['command'][:200]} (process {int(about['pid'])}{elsewhere})"
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return "another process has the lock"
    printable = "".join(one for one in who if one.isprintable())
    return f"{printable} has the lock since {since}"
