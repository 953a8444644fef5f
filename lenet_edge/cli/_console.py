"""The terminal as the display of a flow."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_edge.cli import _terminal

if TYPE_CHECKING:
    from lenet_edge.flows.console import Step
    from lenet_edge.train.loop import TrainingProgress


class TerminalConsole:
    """The terminal of a command; see `flows.console.Console`."""

    def note(self, text: str) -> None:
        """Print one line on standard error."""
        _terminal.say(text)

    def progress_bar(self, title: str, total: int) -> AbstractContextManager[Step]:
        """Open a bar on a terminal; elsewhere print a line for each step."""
        return _terminal.progress_bar(title, total)

    def training_progress(self) -> AbstractContextManager[Callable[[TrainingProgress], None]]:
        """Open the display of a training, which Ctrl-C ends between two steps."""
        return _terminal.training_progress()

    def alone_in(self, folder: Path) -> AbstractContextManager[None]:
        """Hold the lock of an output folder; print the holder while waiting."""
        return _terminal.alone_in(folder)

    def measuring_alone(self) -> AbstractContextManager[None]:
        """Hold the lock of measurements; print the holder while waiting."""
        return _terminal.measuring_alone()


TERMINAL = TerminalConsole()
