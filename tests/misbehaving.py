"""Failures of real runtimes that a worker must survive; see test_worker.py.

The test links this file into a copy of the package, as ``lenet_edge.misbehaving``.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from lenet_edge import worker
from lenet_edge.errors import MissingPackageError, ModelFileError

_calls: list[None] = []


@worker.function
def echo(value: Any) -> Any:
    """Return the argument."""
    return value


@worker.function
def count() -> int:
    """Return how often this process has run this function."""
    _calls.append(None)
    return len(_calls)


@worker.function
def long_text(length: int) -> str:
    """Return more text than a pipe buffers."""
    return "x" * length


@worker.function
def chatter() -> str:
    """Print text that looks like a reply on every stream, from Python and from C."""
    print('{"result": "wrong"}')
    print('{"result": "wrong"}', file=sys.stderr)
    sys.stdout.flush()
    for descriptor in (1, 2):
        os.write(descriptor, b'{"result": "wrong"}\n' * 10_000)
    ctypes.CDLL(None).puts(b'{"result": "wrong"}')
    ctypes.CDLL(None).fflush(None)
    return "right"


@worker.function
def refuse() -> None:
    """Raise an error of this package."""
    raise ModelFileError("that is no model; take another")


@worker.function
def miss_a_package() -> None:
    """Raise the only error whose constructor takes no message."""
    raise MissingPackageError("openvino", "openvino")


@worker.function
def stumble() -> None:
    """Raise an error of another package."""
    raise ZeroDivisionError("an unforeseen division")


@worker.function
def return_an_object() -> object:
    """Return what a reply cannot carry."""
    return object()


def unmarked() -> str:
    """Return what no worker may return: this function lacks the decorator."""
    return "wrong"


@worker.function
def abort() -> None:
    """Print and abort, as a failed C++ assertion does."""
    os.write(2, b"F0000 check failed: model != nullptr\n")
    os.abort()


@worker.function
def segfault() -> None:
    """Read address 0."""
    ctypes.string_at(0)


@worker.function
def vanish() -> None:
    """Exit without output."""
    os._exit(7)


@worker.function
def leave() -> None:
    """Exit as a script does."""
    sys.exit("I am a script")


@worker.function
def crash_after_the_reply() -> str:
    """Return, and crash when the interpreter shuts down."""
    import atexit

    atexit.register(segfault)
    return "right"


@worker.function
def hang(pid_file: Path) -> None:
    """Write the process id to a file, then sleep for a minute and ignore SIGTERM and SIGINT."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    unfinished = pid_file.with_suffix(".new")
    unfinished.write_text(str(os.getpid()))
    unfinished.rename(pid_file)
    time.sleep(60)


@worker.function
def babble() -> None:
    """Print without limit."""
    while True:
        os.write(1, b"x" * 65_536)


@worker.function
def swell() -> None:
    """Allocate memory without limit and write to it."""
    held = []
    while True:
        held.append(bytearray(2**24))


@worker.function
def swell_natively() -> None:
    """Allocate as C++ does, and abort when no memory is left."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    while True:
        block = libc.malloc(ctypes.c_size_t(2**24))
        if not block:
            os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
            os.abort()
        ctypes.memset(block, 1, 2**24)


@worker.function
def leave_a_child(pid_file: Path) -> str:
    """Return, and leave a child process that holds standard output open."""
    child = subprocess.Popen(["sleep", "60"])
    pid_file.write_text(str(child.pid))
    return "right"


@worker.function
def environment() -> str:
    """Return the path of the environment that runs this."""
    return sys.prefix
