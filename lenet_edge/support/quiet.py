"""Keep what native libraries print to themselves, unless something goes wrong."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[list[str]]:
    """Hold back everything written to standard error, native code's lines too, and warnings.

    It is for calls that greet, warn of nothing the user can change, or print their settings. When
    the block raises, what was held back is printed after all, because it may hold the reason. The
    list that it yields has the lines once the block has ended, however it ended.
    """
    sys.stderr.flush()
    real = os.dup(2)
    lines: list[str] = []
    with tempfile.TemporaryFile() as held, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.dup2(held.fileno(), 2)
        try:
            yield lines
        except BaseException:
            held.seek(0)
            os.write(real, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(real, 2)
            os.close(real)
            held.seek(0)
            lines += held.read().decode(errors="replace").splitlines()
