"""The memory limit that the user or the system has set for this process (ulimit -d)."""

from __future__ import annotations

from lenet_edge.errors import LenetEdgeError
from lenet_edge.support.portable import resource

_MIB = 2**20


def memory_limit() -> int | None:
    """Return the limit of allocated memory in bytes, or None.

    This is not RLIMIT_AS, because runtimes reserve far more addresses than they ever write to.
    """
    if resource is None:
        return None
    soft: int
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return None if soft == resource.RLIM_INFINITY else soft


def check_memory_limit(program: str, needed_bytes: int) -> None:
    """Check that the limit allows a program to start. Native code aborts or hangs below it.

    Raises:
        LenetEdgeError: the limit is lower.
    """
    limit = memory_limit()
    if limit is not None and limit < needed_bytes:
        raise LenetEdgeError(
            f"the memory limit is {limit / _MIB:,.0f} MiB, and {program} needs"
            f" {needed_bytes / _MIB:,.0f}; raise it: ulimit -d {needed_bytes // 1024}"
        )
