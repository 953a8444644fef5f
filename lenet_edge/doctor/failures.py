"""Known failures of runtimes, recognized by their error messages, with causes and fixes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lenet_edge.extras import install_command, pip_command

BOARD = "README.md, On a board"
_NUMPY = "https://numpy.org/doc/stable/dev/depending_on_numpy.html"
_LINKER = "https://man7.org/linux/man-pages/man8/ld.so.8.html"
_MEMORY = "https://docs.kernel.org/admin-guide/mm/concepts.html"


@dataclass(frozen=True)
class KnownFailure:
    """A failure with the pattern that recognizes its message, its cause and its fix.

    Groups of the pattern replace {0}, {1} ... in the cause and the fix. In the fix, {numpy1} and
    {litert} are the commands that install them here.
    """

    pattern: str
    cause: str
    fix: str
    see: str


# The first entry whose pattern matches is used.
KNOWN_FAILURES = (
    KnownFailure(
        r"needs NumPy 1,? and NumPy (\S+) is installed|_ARRAY_API not found|compiled using NumPy 1",
        "tflite-runtime was built for NumPy 1: under NumPy 2 it can be imported but not run",
        "{numpy1}, or instead of tflite-runtime: {litert}",
        f"{BOARD}; {_NUMPY}",
    ),
    KnownFailure(
        r"GLIBC(?:XX)?_([\d.]+)' not found|GLIBCXX_([\d.]+)",
        "the package was built for a newer system than this one",
        "upgrade the system, or install an older version of the package",
        _LINKER,
    ),
    KnownFailure(
        r"wrong ELF class|invalid ELF header|another architecture|Exec format error",
        "the library is for another processor, or for 32 instead of 64 bits",
        "remove the package and install it on this machine; do not copy a venv between machines",
        f"{BOARD}; {_LINKER}",
    ),
    KnownFailure(
        r"(lib[\w.+-]+\.so[\d.]*): cannot open shared object file",
        "the system library {0}, which the package needs, is missing or is for another processor",
        "find its package with: apt-file search {0}; for libopenblas: apt-get install libopenblas0,"
        " for libatomic: apt-get install libatomic1, for libvulkan: apt-get install libvulkan1",
        _LINKER,
    ),
    KnownFailure(
        r"SIGILL|Illegal instruction",
        "the package uses instructions that this processor does not have",
        "install an older version of it, or use another runtime",
        BOARD,
    ),
    KnownFailure(
        r"SIGKILL|more than the [\d.]+ GiB of memory|bad_alloc|Cannot allocate memory|MemoryError",
        "there was not enough memory",
        "stop other programs, add swap, or use a smaller runtime",
        _MEMORY,
    ),
    KnownFailure(
        r"Didn't find op for builtin opcode|Unsupported model IR version|opset \d+ is under dev",
        "the runtime is older than the converter that wrote the file",
        "install a newer runtime, or export the file for an older one",
        BOARD,
    ),
    KnownFailure(
        r"No module named '([\w.]+)'|cannot import name '\w+' from '([\w.]+)'",
        "the package {0} is missing or only partly installed",
        "install the package of the runtime again, with the option --force-reinstall of pip",
        BOARD,
    ),
    KnownFailure(
        r"did not finish within",
        "the runtime hangs, often in a driver",
        "update the driver, or use another target",
        BOARD,
    ),
    KnownFailure(
        r"its results are wrong|wrong results|wrong output",
        "the runtime or its driver computes wrong results on this machine",
        "use another target, and verify your files on it with: lenet-edge verify",
        "lenet-edge verify --help",
    ),
)


def find_failure(message: str) -> KnownFailure | None:
    """Return the known failure that matches an error message, with its groups filled in."""
    for failure in KNOWN_FAILURES:
        match = re.search(failure.pattern, message)
        if match:
            groups = [group for group in match.groups() if group]
            commands = {
                "numpy1": pip_command("'numpy<2'"),
                "litert": install_command("litert"),
            }
            cause, fix = failure.cause.format(*groups), failure.fix.format(*groups, **commands)
            return KnownFailure(failure.pattern, cause, fix, failure.see)
    return None
