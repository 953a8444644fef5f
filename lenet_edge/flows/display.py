"""Displays of progress for the Python API: a callback, a bar, or nothing."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lenet_edge.flows.console import Console, Step, stop_between_steps
from lenet_edge.support import lock
from lenet_edge.support.printable import make_printable

if TYPE_CHECKING:
    from rich.console import Console as Screen
    from rich.progress import TextColumn

    from lenet_edge.train.loop import TrainingProgress


@dataclass(frozen=True)
class ProgressEvent:
    """A step of a long call is done, or a note of it.

    `stage` is for example "Bench", `done` of its `total` steps are done, and `detail` names the
    last one. A note has no steps: `total` is 0.
    """

    stage: str
    done: int
    total: int
    detail: str

    def __str__(self) -> str:
        if not self.total:
            return f"{self.stage}: {self.detail}"
        return f"{self.stage} {self.done}/{self.total}: {self.detail}"


ProgressCallback = Callable[[ProgressEvent], None]
Progress = ProgressCallback | Literal["auto"] | None


def console_for(progress: Progress) -> Console:
    """Return the display that the argument `progress` of an API function asks for.

    Args:
        progress: a function that is called with each `ProgressEvent`; None for no display; or
            "auto": a bar of tqdm in a notebook if it is installed, a bar of rich on a terminal,
            and else no display.
    """
    if progress is None:
        return CallbackConsole(lambda event: None)
    if progress != "auto":
        return CallbackConsole(progress)
    if _in_notebook() and find_spec("tqdm"):
        return BarConsole(_tqdm_bar)
    if sys.stderr.isatty():
        return BarConsole(rich_bar)
    return CallbackConsole(lambda event: None)


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules


class CallbackConsole:
    """A display that calls a function; see `flows.console.Console`."""

    def __init__(self, callback: ProgressCallback) -> None:
        self._callback = callback

    def note(self, text: str) -> None:
        """Call the function with a note."""
        self._callback(ProgressEvent("Note", 0, 0, text))

    def progress_bar(self, title: str, total: int) -> AbstractContextManager[Step]:
        """Return a context whose value reports one more step of `total`."""

        def show(done: int, total: int, detail: str) -> None:
            self._callback(ProgressEvent(title, done, total, detail))

        return contextlib.nullcontext(Step(total, show))

    @contextlib.contextmanager
    def training_progress(self) -> Iterator[Callable[[TrainingProgress], None]]:
        """Yield a function that reports the steps of a training; Ctrl-C ends it after a step."""
        with stop_between_steps() as stop_if_pressed:

            def report(now: TrainingProgress) -> None:
                total = now.epochs * now.steps_per_epoch
                done = (now.epoch - 1) * now.steps_per_epoch + now.step
                self._callback(ProgressEvent("Train", done, total, _training_detail(now)))
                stop_if_pressed()

            yield report
            stop_if_pressed()

    def alone_in(self, folder: Path) -> AbstractContextManager[None]:
        """Hold the lock of an output folder."""
        return self._hold(lock.folder_lock_path(folder), f"to write into {folder}")

    def measuring_alone(self) -> AbstractContextManager[None]:
        """Hold the lock of measurements on this machine."""
        return self._hold(lock.machine_lock_path(), "to measure alone")

    def _hold(self, path: Path, purpose: str) -> AbstractContextManager[None]:
        return lock.hold(
            path,
            "lenet_edge in Python",
            lambda holder: self.note(f"Waiting {purpose}: {holder}"),
        )


class BarConsole(CallbackConsole):
    """A display of bars; notes are printed."""

    def __init__(self, bar: Callable[[str, int], AbstractContextManager[Step]]) -> None:
        super().__init__(lambda event: print(event.detail))
        self._bar = bar

    def progress_bar(self, title: str, total: int) -> AbstractContextManager[Step]:
        """Open a bar."""
        return self._bar(title, total)

    @contextlib.contextmanager
    def training_progress(self) -> Iterator[Callable[[TrainingProgress], None]]:
        """Open a bar of epochs; Ctrl-C ends the training after a step."""
        with stop_between_steps() as stop_if_pressed, contextlib.ExitStack() as stack:
            step: Step | None = None

            def report(now: TrainingProgress) -> None:
                nonlocal step
                step = step or stack.enter_context(self._bar("Train", now.epochs))
                if now.accuracy is not None:
                    step(_training_detail(now))
                stop_if_pressed()

            yield report
            stop_if_pressed()


def _training_detail(now: TrainingProgress) -> str:
    if now.accuracy is not None:
        return f"epoch {now.epoch}/{now.epochs}: {now.accuracy:.2%} of {now.watched}"
    return f"epoch {now.epoch}/{now.epochs}: loss {now.loss:.4f}"


@contextlib.contextmanager
def _tqdm_bar(title: str, total: int) -> Iterator[Step]:
    from tqdm import tqdm

    with tqdm(total=total, desc=title, leave=False) as bar:

        def show(done: int, total: int, detail: str) -> None:
            bar.total = total
            bar.set_postfix_str(detail, refresh=False)
            bar.update()

        yield Step(total, show)


@contextlib.contextmanager
def rich_bar(title: str, total: int) -> Iterator[Step]:
    """Draw a bar on a terminal, with the time left; it disappears at its end."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.fields[title]}"),
        BarColumn(15),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        last_column("{task.description}"),
    )
    with Progress(*columns, console=screen(), transient=True, expand=True) as progress:
        task = progress.add_task("", total=total, title=title)

        def show(done: int, total: int, detail: str) -> None:
            progress.update(task, completed=done, total=total, description=make_printable(detail))

        yield Step(total, show)


def screen() -> Screen:
    """Return the terminal at standard error."""
    from rich.console import Console as Screen

    return Screen(stderr=True)


def last_column(text: str) -> TextColumn:
    """Return a column that is cut at the end of the line, so that the others keep their room."""
    from rich.progress import TextColumn
    from rich.table import Column

    column = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    return TextColumn(text, style="dim", markup=False, table_column=column)
