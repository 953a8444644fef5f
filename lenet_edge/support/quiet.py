"""Suppress the output of native libraries, unless the call fails."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator

from lenet_edge.support.temporary import memory_file


@contextlib.contextmanager
def quiet() -> Iterator[list[str]]:
    """Hold back standard error, including that of native code, and Python warnings.

    Use it for library calls that print banners, settings, or warnings that the user cannot act
    on. If the block raises, the held output is printed, because it may contain the reason.

    Yields:
        A list that holds the lines after the block has ended, with or without an exception.
    """
    sys.stderr.flush()
    original_stderr = os.dup(2)
    lines: list[str] = []
    with memory_file() as held, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.dup2(held.fileno(), 2)
        try:
            yield lines
        except BaseException:
            held.seek(0)
            with contextlib.suppress(OSError):  # of a full or closed stream
                os.write(original_stderr, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(original_stderr, 2)
            os.close(original_stderr)
            held.seek(0)
            lines += held.read().decode(errors="replace").splitlines()
