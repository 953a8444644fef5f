"""Displays of progress for the Python API."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest

from lenet_edge.flows.console import late_bar
from lenet_edge.flows.display import BarConsole, CallbackConsole, ProgressEvent, console_for
from lenet_edge.support import lock


def test_a_callback_gets_an_event_for_each_step_and_note() -> None:
    events: list[ProgressEvent] = []
    console = console_for(events.append)
    console.note("Loading")
    with console.progress_bar("Bench", 2) as step:
        step("a")
        step.extend(1)
        step("b")
    assert events == [
        ProgressEvent("Note", 0, 0, "Loading"),
        ProgressEvent("Bench", 1, 2, "a"),
        ProgressEvent("Bench", 2, 3, "b"),
    ]
    assert list(map(str, events)) == ["Note: Loading", "Bench 1/2: a", "Bench 2/3: b"]


def test_a_bar_may_get_its_length_later() -> None:
    events: list[ProgressEvent] = []
    with late_bar(CallbackConsole(events.append), "Bench") as begin:
        begin(7)("a")
    assert events == [ProgressEvent("Bench", 1, 7, "a")]


def test_without_a_notebook_or_a_terminal_auto_shows_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    for progress in ("auto", None):
        console = console_for(progress)
        console.note("Loading")
        with console.progress_bar("Bench", 1) as step:
            step("a")
    assert capfd.readouterr() == ("", "")


def test_a_notebook_gets_a_bar_of_tqdm(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tqdm")
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    console = console_for("auto")
    assert isinstance(console, BarConsole)
    console.note("Loading")
    with console.progress_bar("Bench", 1) as step:
        step("lenet_int8.tflite")
    printed, bars = capfd.readouterr()
    assert printed == "Loading\n"
    assert "Bench:" in bars


def test_a_terminal_gets_a_bar_of_rich_that_a_name_cannot_control() -> None:
    terminal, process_end = pty.openpty()
    code = (
        "from lenet_edge.flows.display import console_for\n"
        "with console_for('auto').progress_bar('Bench', 1) as step: step('a\\x1b]0;owned\\x07b')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=process_end, stdout=process_end, stderr=process_end,
        env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(process_end)
    written = b""
    try:
        while chunk := os.read(terminal, 65_536):
            written += chunk
    except OSError:  # Linux reports the closed other side so
        pass
    os.close(terminal)
    assert process.wait(60) == 0
    assert b"Bench" in written
    assert b"\x1b]0" not in written


def test_the_wait_for_a_lock_is_a_note(tmp_path: Path) -> None:
    events: list[ProgressEvent] = []
    console = CallbackConsole(events.append)
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with lock.hold(lock.folder_lock_path(tmp_path), "another command"):
            held.set()
            release.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(30)
    timer = threading.Timer(0.5, release.set)
    timer.start()
    with console.alone_in(tmp_path):
        assert release.is_set()
    holder.join()
    (event,) = events
    assert event.detail.startswith(f"Waiting to write into {tmp_path}: another command")


def test_a_training_ends_between_steps_outside_of_the_main_thread_too() -> None:
    """A signal handler is for the main thread only; a notebook may train in another."""
    errors: list[BaseException] = []

    def train() -> None:
        try:
            with CallbackConsole(lambda event: None).training_progress():
                pass
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert errors == []
