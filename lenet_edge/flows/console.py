"""The display of a flow: progress, notes and the wait for a lock.

Flows know this protocol only. The commands implement it for a terminal
(``cli._console.TerminalConsole``), the Python API for notebooks and callbacks
(``flows.display``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lenet_edge.train.loop import TrainingProgress

Step = Callable[[str], None]  # called with a few words when a step of a stage is done


class Console(Protocol):
    """A display of progress."""

    def note(self, text: str) -> None:
        """Show one line."""

    def progress_bar(self, title: str, total: int) -> AbstractContextManager[Step]:
        """Open a bar of `total` steps; its value is called after each step."""

    def training_progress(self) -> AbstractContextManager[Callable[[TrainingProgress], None]]:
        """Open the display of a training; its value is called with each `TrainingProgress`."""

    def alone_in(self, folder: Path) -> AbstractContextManager[None]:
        """Hold the lock of an output folder, after a wait for other processes."""

    def measuring_alone(self) -> AbstractContextManager[None]:
        """Hold the lock of measurements on this machine, after a wait for other processes."""


@contextlib.contextmanager
def late_bar(console: Console, title: str) -> Iterator[Callable[[int], Step]]:
    """Yield a function that opens a bar once its number of steps is known."""
    with contextlib.ExitStack() as stack:
        yield lambda total: stack.enter_context(console.progress_bar(title, total))
