"""Folders full of code that must not run: one file for each module that Python could import."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

# Python imports these before it runs the first line of ``python -m PACKAGE``.
_PRINT_EARLY = "import runpy, sys; print(*{name.split('.')[0] for name in sys.modules})"
_CODE = "open({mark!r}, 'w').close()\nraise ImportError('code of the current folder')\n"
_MARK_IN_C = """
#include <stdio.h>
__attribute__((constructor)) static void mark(void) {{ fclose(fopen("{mark}", "w")); }}
"""


def module_names() -> set[str]:
    """Return the names of all modules that this Python could import, except built-in modules."""
    names = {*sys.stdlib_module_names, *importlib.metadata.packages_distributions()}
    names |= {"sitecustomize", "usercustomize", "lenet_edge"}
    return {name for name in names - {*sys.builtin_module_names} if name.isidentifier()}


def early_names() -> set[str]:
    """Return the names of the modules that ``python -m`` imports before any code of a package."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", _PRINT_EARLY], capture_output=True, text=True, check=True
    )
    return {*done.stdout.split()}


def fill(folder: Path, marks: Path, seen_as: Path | None = None) -> None:
    """Write the files, each of which leaves a file in `marks` when its code runs.

    Args:
        folder: the folder to fill.
        marks: an existing folder.
        seen_as: the path of `marks` for the code, if the code runs on a board.
    """
    seen_as = seen_as or marks
    for name in sorted(module_names() - {"lenet_edge"}):
        (folder / f"{name}.py").write_text(_CODE.format(mark=str(seen_as / name)))
    package = folder / "lenet_edge"
    package.mkdir()
    for name in ("__init__", "__main__", "cli"):
        mark = str(seen_as / f"lenet_edge.{name}")
        (package / f"{name}.py").write_text(_CODE.format(mark=mark))
    os.mkfifo(folder / "matplotlibrc")  # matplotlib would wait for ever
    if shutil.which("cc"):  # the linker searches the current folder for a name in a script of GCC
        source = marks.parent / "mark.c"
        source.write_text(_MARK_IN_C.format(mark=seen_as / "libgcc_s"))
        command = ["cc", "-fPIC", "-c", str(source), "-o", str(folder / "libgcc_s.so.1")]
        subprocess.run(command, check=True, timeout=60)
