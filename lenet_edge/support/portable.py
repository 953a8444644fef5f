"""Parts of Linux that other systems may lack: flags of open(), user ids, limits of a process.

A flag that is missing is 0. On Windows all files belong to user 0, and so does this process.
"""

from __future__ import annotations

import os
from types import ModuleType

CLOEXEC: int = getattr(os, "O_CLOEXEC", 0)
DIRECTORY: int = getattr(os, "O_DIRECTORY", 0)
NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)
NOCTTY: int = getattr(os, "O_NOCTTY", 0)
PATH: int = getattr(os, "O_PATH", os.O_RDONLY)  # a descriptor of a folder, without reading it

resource: ModuleType | None
try:
    import resource
except ImportError:
    resource = None


def user_id() -> int:
    """Return the number of this user."""
    return os.geteuid() if hasattr(os, "geteuid") else 0


def allowed_cores() -> tuple[int, ...]:
    """Return the numbers of the CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def limit_resource(name: str, value: int) -> None:
    """Lower a limit of this process, such as "RLIMIT_CORE", where the system has it."""
    if resource is not None and hasattr(resource, name):
        resource.setrlimit(getattr(resource, name), (value, value))
