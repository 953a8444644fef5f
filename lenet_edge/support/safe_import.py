"""Imports of packages that read settings from the current folder while they are imported."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from lenet_edge.support import portable


@contextlib.contextmanager
def outside_of_the_current_folder() -> Iterator[None]:
    """Make the root folder the current one during the block.

    Matplotlib reads a file matplotlibrc of the current folder. Old versions evaluate an expression
    in it, and its settings could run TeX.
    """
    before = os.open(".", portable.PATH | portable.CLOEXEC)
    try:
        os.chdir("/")
        yield
    finally:
        os.fchdir(before)
        os.close(before)
