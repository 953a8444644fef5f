"""Programs that build and count: compilers, binutils, QEMU and Valgrind."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from lenet_edge.errors import TargetError
from lenet_edge.support.child_program import run_program

_TIMEOUT_S = 600.0


def find_tool(name: str, package: str) -> str:
    """Return the path of a program.

    Args:
        name: the program.
        package: its Debian package, for the message.

    Raises:
        TargetError: the program is not installed.
    """
    path = shutil.which(name)
    if path is None:
        raise TargetError(f"{name} is not installed; apt install {package}")
    return path


def run_tool(command: Sequence[str | Path], folder: Path, timeout_s: float = _TIMEOUT_S) -> str:
    """Run a program in a scratch folder; return its standard output.

    Raises:
        TargetError: it reports an error, or reaches the time limit.
    """
    words = [str(word) for word in command]
    name = Path(words[0]).name
    try:
        done = run_program(words, folder, timeout_s)
    except subprocess.TimeoutExpired:
        raise TargetError(f"{name} took longer than {timeout_s:g} s; use a smaller model") from None
    except OSError as error:
        raise TargetError(f"{name} cannot be run: {error}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        reason = (lines or done.stderr.splitlines() or ["no message"])[0]
        raise TargetError(
            f"{name} ended with status {done.returncode}: {' '.join(reason.split())[:200]}"
        )
    return done.stdout


def read_version(program: str, folder: Path) -> str:
    """Return the first line that a program prints about itself."""
    return run_tool([program, "--version"], folder, 60).partition("\n")[0].strip()
