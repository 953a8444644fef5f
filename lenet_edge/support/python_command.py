"""Command lines that start Python and import nothing from the current folder.

``python -c`` and ``python -m`` put the current folder on `sys.path`. A file json.py in it would
then replace the module of the standard library. Python 3.10 has no option against that alone: -P
is newer, and -I also ignores PYTHONPATH and the packages in the home folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

# It must come before the first import of a file. The module `sys` is part of the interpreter.
_CLEAN_PATH = "import sys; sys.path[:] = [folder for folder in sys.path if folder]"


def python_program(program: str, *arguments: str, python: Path | str = sys.executable) -> list[str]:
    """Return the command that runs the text of a program.

    Args:
        program: the text; its first line must not be indented.
        arguments: the elements of the program's `sys.argv` after the first.
        python: the interpreter, which may be on another machine.
    """
    return [str(python), "-c", f"{_CLEAN_PATH}; {program}", *arguments]


def python_module(module: str, *arguments: str, python: Path | str = sys.executable) -> list[str]:
    """Return the command that runs a module as a program, as ``python -m`` does."""
    start = f"import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    return python_program(start, *arguments, python=python)
