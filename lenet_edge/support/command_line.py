"""Command line that this process executes, as the user would type it."""

from __future__ import annotations

import contextlib
import contextvars
import shlex
from collections.abc import Iterator, Sequence

_current: contextvars.ContextVar[str | None] = contextvars.ContextVar("command", default=None)


@contextlib.contextmanager
def recorded_command(arguments: Sequence[str]) -> Iterator[None]:
    """Remember the arguments of ``lenet-edge`` in a context, for the results that it writes."""
    token = _current.set(shlex.join(("lenet-edge", *arguments)))
    try:
        yield
    finally:
        _current.reset(token)


def current_command() -> str | None:
    """Return the command line; None in a program that imports this package."""
    return _current.get()
