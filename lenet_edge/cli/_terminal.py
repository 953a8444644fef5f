"""Output to the terminal: results on standard output, progress and notes on standard error.

Names of files, layers and classes are untrusted. `make_printable` replaces their control
characters, and rich does not interpret them as markup.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lenet_edge.support.printable import make_printable

if TYPE_CHECKING:
    from lenet_edge.flows.console import Step
    from lenet_edge.train.loop import TrainingProgress

GATE_FAILED = 3  # exit status if a file does not pass
INCONCLUSIVE = 4  # exit status if images are too few, or the input is assumed


def exit_with(verdict: str, left_out: Mapping[str, str] | None = None) -> None:
    """End the command with the exit status of a verdict.

    Args:
        verdict: "pass", "fail" or "inconclusive".
        left_out: what was left out; see `stop_if_left_out`. A failure goes before it, and it goes
            before an open verdict.
    """
    if verdict != "fail":
        stop_if_left_out(left_out or {})
    if verdict != "pass":
        raise click.exceptions.Exit(GATE_FAILED if verdict == "fail" else INCONCLUSIVE)


def stop_if_left_out(reasons: Mapping[str, str]) -> None:
    """End the command with exit status 1 if it left out a file or a target that the user named.

    Args:
        reasons: the reason and its fix, by the name of the file or target.

    Raises:
        TargetError: there is a reason.
    """
    if reasons:
        from lenet_edge.errors import TargetError
        from lenet_edge.results.formatting import name_some

        verb = "was" if len(reasons) == 1 else "were"
        first = next(iter(reasons.values()))
        raise TargetError(f"{name_some(list(reasons), 3)} {verb} left out: {first}")


def say(text: str) -> None:
    """Print one line of progress on standard error."""
    click.echo(make_printable(text), err=True)


def show(renderable: Any) -> None:
    """Print a rich table or text on standard output, at the width of the terminal."""
    from rich.console import Console
    from rich.segment import Segments

    # A pipe has no width, unless the user states it.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 80
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    segments = console.render(renderable)
    safe = (segment._replace(text=make_printable(segment.text)) for segment in segments)
    console.print(Segments(safe), end="")


def output(renderable: Any, facts: Any, json_file: Path | None) -> None:
    """Print a result, and write it as JSON if --json names a file.

    With ``--json -``, print only the JSON on standard output.
    """
    if json_file:  # first: the file remains if standard output is full
        write_json(json_file, facts)
    if str(json_file) != "-":
        show(renderable)


def write_json(json_file: Path, facts: Any) -> None:
    """Write a result to the file of --json; "-" is standard output."""
    from lenet_edge.support.files import atomic_write

    text = json.dumps(facts, indent=1) + "\n"
    if str(json_file) == "-":
        click.echo(text, nl=False)
        return
    with atomic_write(json_file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def alone_in(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Return a context in which no other command writes into a folder."""
    from lenet_edge.support import lock

    return _hold_lock(lock.folder_lock_path(folder), f"to write into {folder}")


def measuring_alone() -> contextlib.AbstractContextManager[None]:
    """Return a context in which no other command measures on this machine."""
    from lenet_edge.support import lock

    return _hold_lock(lock.machine_lock_path(), "to measure alone")


@contextlib.contextmanager
def _hold_lock(lock_file: Path, purpose: str) -> Iterator[None]:
    """Hold a lock. While another process holds it, print which, and wait."""
    from lenet_edge.support import lock

    with contextlib.ExitStack() as waiting:

        def wait(holder: str) -> None:
            waiting.close()
            say(f"Waiting {purpose}: {holder}; Ctrl-C gives up")
            waiting.enter_context(spinner(""))

        with lock.hold(lock_file, click.get_current_context().command_path, wait):
            waiting.close()
            yield


@contextlib.contextmanager
def spinner(title: str) -> Iterator[None]:
    """Show a spinner and the elapsed time, if standard error is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        progress.add_task(title, total=None)
        yield


class _Log:
    """Lines of progress for a log: the first and the last, and one for every 5 % or 10 seconds."""

    def __init__(self, start: float | None = 0.0) -> None:
        """Begin to measure the time.

        Args:
            start: the part that is done already, from 0 to 1; None: that of the first line.
        """
        self._start, self._started_s = start, time.monotonic()
        self._shown: tuple[float, float] | None = None

    def say(self, share: float, text: str, must: bool = False) -> None:
        """Print a line with the time left, if it is due.

        Args:
            share: the part that is done, from 0 to 1.
            text: the line.
            must: print it in any case.
        """
        now_s = time.monotonic()
        if self._start is None:
            self._start, self._started_s = share, now_s
        if self._shown is not None and share < 1 and not must:
            more, since_s = share - self._shown[0], now_s - self._shown[1]
            if since_s < 1 or (since_s < 10 and more < 0.05):
                return
        self._shown = share, now_s
        done = share - self._start
        left_s = (now_s - self._started_s) / done * (1 - share) if done > 0 else 0.0
        say(f"{text} ({_time_left(left_s)} left)" if left_s > 10 else text)


def _time_left(seconds: float) -> str:
    """Format a duration without false precision: "45 s", "12 min" or "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


@contextlib.contextmanager
def progress_bar(title: str, total: int) -> Iterator[Step]:
    """Yield a function to call after each of `total` steps, with a description of the step.

    It draws a bar with the remaining time on a terminal. Elsewhere it prints the lines of `_Log`.
    """
    from lenet_edge.flows.console import Step

    if not sys.stderr.isatty():
        log = _Log()

        def print_step(done: int, total: int, step: str) -> None:
            log.say(done / max(total, 1), f"{title} {done}/{total}: {step}")

        yield Step(total, print_step)
        return
    from lenet_edge.flows.display import rich_bar

    with rich_bar(title, total) as step:
        yield step


@contextlib.contextmanager
def training_progress() -> Iterator[Callable[[TrainingProgress], None]]:
    """Yield a function for the reports of `loop.train`, in which Ctrl-C takes effect."""
    from lenet_edge.flows.console import stop_between_steps

    with _training_line() as show_progress, stop_between_steps() as stop_if_pressed:

        def report(progress: TrainingProgress) -> None:
            show_progress(progress)
            stop_if_pressed()

        yield report
        stop_if_pressed()


@contextlib.contextmanager
def _training_line() -> Iterator[Callable[[TrainingProgress], None]]:
    """Yield a function that shows progress: a live line on a terminal, plain lines elsewhere."""
    if not sys.stderr.isatty():
        log = _Log(None)
        yield lambda progress: log.say(
            _share(progress), _training_text(progress), must=progress.accuracy is not None
        )
        return
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    from lenet_edge.flows.display import last_column, screen

    columns = (
        TextColumn("Epoch {task.fields[epoch]}"),
        BarColumn(10),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        last_column("{task.description}"),
    )
    with Progress(*columns, console=screen(), expand=True) as bar:
        task = bar.add_task("", total=1, epoch="")
        accuracy = ""

        def update(progress: TrainingProgress) -> None:
            nonlocal accuracy
            if progress.accuracy is not None:
                accuracy = f"accuracy {progress.accuracy:.2%}  "
            bar.update(
                task,
                completed=_share(progress),
                epoch=f"{progress.epoch}/{progress.epochs}",
                description=f"{accuracy}loss {progress.loss:.4f}  {progress.images_per_s:,.0f}"
                f" images/s  rate {progress.learning_rate:.1e}",
            )

        yield update


def _share(progress: TrainingProgress) -> float:
    """Return the part of a training that is done."""
    epochs = progress.epoch - 1 + progress.step / progress.steps_per_epoch
    return epochs / progress.epochs


def _training_text(progress: TrainingProgress) -> str:
    epoch = f"epoch {progress.epoch}/{progress.epochs}"
    if progress.accuracy is not None:
        return f"{epoch}: {progress.accuracy:.2%} of {progress.watched}"
    return (
        f"{epoch}, step {progress.step}/{progress.steps_per_epoch}: loss {progress.loss:.4f},"
        f" rate {progress.learning_rate:.1e}, {progress.images_per_s:,.0f} images/s"
    )
