"""The terminal: results on standard output, progress and notes on standard error.

Names of files, layers and classes come from anybody: on their way to a terminal they lose what
would steer it, and none of them is read as markup.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lenet_edge.support.tame import tame

if TYPE_CHECKING:
    from lenet_edge.train.loop import TrainingProgress

GATE_FAILED = 3  # the exit status when a file did not pass
INCONCLUSIVE = 4  # when there were too few images to tell


def say(text: str) -> None:
    """Print one line of progress on standard error."""
    click.echo(tame(text), err=True)


def show(renderable: Any) -> None:
    """Print a rich table or text on standard output, at the width there is."""
    from rich.console import Console
    from rich.segment import Segments

    # A pipe has no width; 80 columns are what every table here fits in.
    width = None if sys.stdout.isatty() else 80
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    tamed = (one._replace(text=tame(one.text)) for one in console.render(renderable))
    console.print(Segments(tamed), end="")


def output(renderable: Any, facts: Any, json_file: Path | None) -> None:
    """Show a result, and write the same as JSON where --json asks for it.

    With ``--json -`` standard output gets the JSON and nothing else.
    """
    if str(json_file) != "-":
        show(renderable)
    if json_file:
        write_json(json_file, facts)


def write_json(json_file: Path, facts: Any) -> None:
    """Write facts as --json asks for them; "-" is standard output."""
    from lenet_edge.support.files import atomic_write

    text = json.dumps(facts, indent=1) + "\n"
    if str(json_file) == "-":
        click.echo(text, nl=False)
        return
    with atomic_write(json_file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def alone_in(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Be the only command that writes into a folder, for a while."""
    from lenet_edge.support import lock

    return _held(lock.folder_lock_path(folder), f"to write into {folder}")


def measuring_alone() -> contextlib.AbstractContextManager[None]:
    """Be the only command that measures on this machine, for a while."""
    from lenet_edge.support import lock

    return _held(lock.machine_lock_path(), "to measure alone")


@contextlib.contextmanager
def _held(lock_file: Path, purpose: str) -> Iterator[None]:
    """Hold a lock; while another process does, say which, and wait for it."""
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
    """Show on a terminal that something goes on, and how long already."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        progress.add_task(title, total=None)
        yield


@contextlib.contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[str], None]]:
    """Yield a function that says that one more of `total` steps is done, and which.

    On a terminal it draws a bar with the time left; elsewhere it prints a line for each step.
    """
    if not sys.stderr.isatty():
        done, started = 0, time.monotonic()

        def line(what: str) -> None:
            nonlocal done
            done += 1
            left = (time.monotonic() - started) / done * (total - done)
            say(f"{title} {done}/{total}: {what}" + (f" ({left:,.0f} s left)" if left > 10 else ""))

        yield line
        return
    from lenet_edge.flows.display import rich_bar

    with rich_bar(title, total) as step:
        yield step


@contextlib.contextmanager
def training_progress() -> Iterator[Callable[[TrainingProgress], None]]:
    """Yield what `loop.train` reports to, and where Ctrl-C takes effect."""
    from lenet_edge.flows.console import stop_between_steps

    with _training_line() as show_progress, stop_between_steps() as stop_if_pressed:

        def report(now: TrainingProgress) -> None:
            show_progress(now)
            stop_if_pressed()

        yield report
        stop_if_pressed()


@contextlib.contextmanager
def _training_line() -> Iterator[Callable[[TrainingProgress], None]]:
    """Yield what shows a training: a live line on a terminal, plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield _print_training
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("Epoch {task.fields[epoch]}"),
        BarColumn(20),
        TextColumn("{task.description}"),
        TimeRemainingColumn(compact=True),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None, epoch="")
        watched = ""

        def update(now: TrainingProgress) -> None:
            nonlocal watched
            if now.accuracy is not None:
                watched = f"  right {now.accuracy:.2%}"
            bar.update(
                task,
                total=now.epochs * now.steps_per_epoch,
                completed=(now.epoch - 1) * now.steps_per_epoch + now.step,
                epoch=f"{now.epoch}/{now.epochs}",
                description=f"loss {now.loss:.4f}{watched}  rate {now.learning_rate:.1e}"
                f"  {now.images_per_s:,.0f} images/s",
            )

        yield update


def _print_training(now: TrainingProgress) -> None:
    if now.accuracy is not None:
        say(f"epoch {now.epoch}/{now.epochs}: {now.accuracy:.2%} of {now.watched}")
        return
    say(
        f"epoch {now.epoch}/{now.epochs}, step {now.step}/{now.steps_per_epoch}:"
        f" loss {now.loss:.4f}, rate {now.learning_rate:.1e}, {now.images_per_s:,.0f} images/s"
    )
