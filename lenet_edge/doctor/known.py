"""Known ways in which a runtime fails, told by what it says, with cause and fix."""

from __future__ import annotations

import re
from dataclasses import dataclass

BOARD = "README.md, On a board"
_NUMPY = "https://numpy.org/doc/stable/dev/depending_on_numpy.html"
_LINKER = "https://man7.org/linux/man-pages/man8/ld.so.8.html"
_MEMORY = "https://docs.kernel.org/admin-guide/mm/concepts.html"


@dataclass(frozen=True)
class Known:
    """A failure: the pattern it is known by, in any message or a worker's last words."""

    pattern: str
    cause: str
    fix: str
    see: str


# The first that fits is taken; groups of the pattern may stand in the cause and the fix.
FAILURES = (
    Known(
        r"needs NumPy 1 and NumPy (\S+) is installed|_ARRAY_API not found|compiled using NumPy 1",
        "tflite-runtime was built for NumPy 1: under NumPy 2 it imports, and then cannot run",
        "pip install 'numpy<2', or pip install 'lenet-edge[litert]' instead",
        f"{BOARD}; {_NUMPY}",
    ),
    Known(
        r"GLIBC(?:XX)?_([\d.]+)' not found|GLIBCXX_([\d.]+)",
        "the package was built for a newer system than this one",
        "upgrade the system, or install an older version of the package",
        _LINKER,
    ),
    Known(
        r"wrong ELF class|invalid ELF header|another architecture|Exec format error",
        "the library is for another processor, or for 32 instead of 64 bits",
        "remove the package and install it on this very machine; copy no venv between machines",
        f"{BOARD}; {_LINKER}",
    ),
    Known(
        r"(lib[\w.+-]+\.so[\d.]*): cannot open shared object file",
        "the package needs the system's library {0}, which is missing, or is for another processor",
        "find its package with: apt-file search {0}; for libopenblas: apt-get install libopenblas0,"
        " for libatomic: apt-get install libatomic1, for libvulkan: apt-get install libvulkan1",
        _LINKER,
    ),
    Known(
        r"SIGILL|Illegal instruction",
        "the package uses instructions that this processor does not have",
        "install an older version of it, or take another runtime",
        BOARD,
    ),
    Known(
        r"SIGKILL|more than the [\d.]+ GiB of memory|bad_alloc|Cannot allocate memory|MemoryError",
        "there was not enough memory",
        "stop other programs, add swap, or take a smaller runtime",
        _MEMORY,
    ),
    Known(
        r"Didn't find op for builtin opcode|Unsupported model IR version|opset \d+ is under dev",
        "the runtime is older than the file's converter",
        "install a newer runtime, or export the file for an older one",
        BOARD,
    ),
    Known(
        r"No module named '([\w.]+)'|cannot import name '\w+' from '([\w.]+)'",
        "the package {0} is missing, or only half installed",
        "pip install --force-reinstall the runtime's package",
        BOARD,
    ),
    Known(
        r"did not finish within",
        "the runtime hangs, often in a driver",
        "update the driver, or take another target",
        BOARD,
    ),
    Known(
        r"answers wrong",
        "the runtime or its driver computes something else on this machine",
        "take another target; verify your files on it with: lenet-edge verify",
        "lenet-edge verify --help",
    ),
)


def explain(message: str) -> Known | None:
    """Return what is known of a failure that says this, with its names filled in."""
    for known in FAILURES:
        found = re.search(known.pattern, message)
        if found:
            names = [name for name in found.groups() if name]
            return Known(
                known.pattern, known.cause.format(*names), known.fix.format(*names), known.see
            )
    return None
