"""The display of a flow: progress, notes and the wait for a lock.

Flows know this protocol only. The commands implement it for a terminal
(``cli._console.TerminalConsole``), the Python API for notebooks and callbacks
(``flows.display``).
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lenet_edge.errors import LenetEdgeError

if TYPE_CHECKING:
    from lenet_edge.train.loop import TrainingProgress


class Step:
    """Counter of the finished steps of a stage; call it with a few words after each step.

    Args:
        total: the number of steps.
        show: called with the number of finished steps, the total and the words.
    """

    def __init__(self, total: int, show: Callable[[int, int, str], None]) -> None:
        self._done, self._total, self._show = 0, total, show

    def __call__(self, detail: str) -> None:
        """Count one more step."""
        self._done += 1
        self._show(self._done, self._total, detail)

    def extend(self, count: int) -> None:
        """Add steps to the total."""
        self._total += count


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


@contextlib.contextmanager
def megabytes_bar(
    console: Console, title: str, total_bytes: int
) -> Iterator[Callable[[int, str], None]]:
    """Open a bar of megabytes; yield a function to call with the bytes of each piece and words."""
    total, done, done_bytes = -(-total_bytes // 10**6), 0, 0
    with console.progress_bar(f"{title} (MB)", total) as step:

        def count(num_bytes: int, detail: str) -> None:
            nonlocal done, done_bytes
            done_bytes += num_bytes
            while done < total and done_bytes >= min(total_bytes, (done + 1) * 10**6):
                done += 1
                step(detail)

        yield count


def note_left_out(reasons: Mapping[str, str], note: Callable[[str], None]) -> None:
    """Show a line for each reason why something was left out, with the names of the things."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    for reason, group in names.items():
        note(f"Left out {', '.join(group)}: {reason}")


@contextlib.contextmanager
def stop_between_steps() -> Iterator[Callable[[], None]]:
    """Yield a function that raises KeyboardInterrupt if Ctrl-C was pressed; nothing else does.

    TensorFlow's native code calls Python without expecting that exception: it reports another
    error, or crashes.
    """
    pressed = False

    def remember(number: int, frame: object) -> None:
        nonlocal pressed
        pressed = True

    def stop_if_pressed() -> None:
        if pressed:
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    # A shell has background commands ignore Ctrl-C; only the main thread may set a handler.
    replaced = before == signal.default_int_handler and (
        threading.current_thread() is threading.main_thread()
    )
    if replaced:
        signal.signal(signal.SIGINT, remember)
    try:
        yield stop_if_pressed
    except LenetEdgeError:
        stop_if_pressed()  # other workers on the same terminal stopped too, and failed first
        raise
    finally:
        if replaced:
            signal.signal(signal.SIGINT, before)
