"""What runtimes have been seen to do, for the worker to survive; see test_worker.py.

The test puts this file into a copy of the package, where a worker can import it.
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

from lenet_edge.errors import MissingPackageError, ModelFileError

_calls: list[None] = []


def echo(value: Any) -> Any:
    """Answer what was asked."""
    return value


def count() -> int:
    """Answer how often this process was asked."""
    _calls.append(None)
    return len(_calls)


def long_answer(length: int) -> str:
    """Answer more than a pipe holds."""
    return "x" * length


def chatter() -> str:
    """Print on every stream, from Python and below it, things that look like an answer."""
    print('{"result": "wrong"}')
    print('{"result": "wrong"}', file=sys.stderr)
    sys.stdout.flush()
    for descriptor in (1, 2):
        os.write(descriptor, b'{"result": "wrong"}\n' * 10_000)
    ctypes.CDLL(None).puts(b'{"result": "wrong"}')
    ctypes.CDLL(None).fflush(None)
    return "right"


def refuse() -> None:
    """Raise an error of this package."""
    raise ModelFileError("that is no model; take another")


def miss_a_package() -> None:
    """Raise the one error whose constructor takes something else than a message."""
    raise MissingPackageError("openvino", "openvino")


def stumble() -> None:
    """Raise what nobody foresaw."""
    raise ZeroDivisionError("an unforeseen division")


def answer_what_json_cannot_hold() -> object:
    """Return an object."""
    return object()


def abort() -> None:
    """Do what a failed C++ assertion does."""
    os.write(2, b"F0000 check failed: model != nullptr\n")
    os.abort()


def segfault() -> None:
    """Read address 0."""
    ctypes.string_at(0)


def vanish() -> None:
    """Leave without a word."""
    os._exit(7)


def leave() -> None:
    """Leave as a script does."""
    sys.exit("I am a script")


def crash_after_answering() -> str:
    """Answer, and leave a library that crashes when the interpreter is torn down."""
    import atexit

    atexit.register(segfault)
    return "right"


def hang(pid_file: str) -> None:
    """Say who one is, then do nothing for a minute, deaf to SIGTERM and SIGINT."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Path(pid_file + ".new").write_text(str(os.getpid()))
    Path(pid_file + ".new").rename(pid_file)
    time.sleep(60)


def babble() -> None:
    """Print without end."""
    while True:
        os.write(1, b"x" * 65_536)


def swell() -> None:
    """Allocate without end, and use what was given."""
    held = []
    while True:
        held.append(bytearray(2**24))


def swell_natively() -> None:
    """Do what C++ does when its memory ends."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    while True:
        block = libc.malloc(ctypes.c_size_t(2**24))
        if not block:
            os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
            os.abort()
        ctypes.memset(block, 1, 2**24)


def leave_a_child(pid_file: str) -> str:
    """Answer, and leave a process that holds our standard output open."""
    child = subprocess.Popen(["sleep", "60"])
    Path(pid_file).write_text(str(child.pid))
    return "right"


def who() -> str:
    """Tell which environment this is."""
    return sys.prefix
