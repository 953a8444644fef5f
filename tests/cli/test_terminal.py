"""Tests on a real terminal: colours, a width of 80 columns, help, completion, untrusted names."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from lenet_edge.cli import _terminal
from tests.test_docs import COMMANDS

COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-7]|9[0-7]|4[0-7])[0-9;]*m")
ROOT = Path(__file__).parents[2]


def on_a_terminal(*arguments: str, **variables: str) -> str:
    """Return the output of ``lenet-edge ARGUMENTS`` to a terminal of 80 columns."""
    return run_on_a_terminal(["-m", "lenet_edge", *arguments], variables)


def run_on_a_terminal(arguments: list[str], variables: dict[str, str], columns: int = 80) -> str:
    """Return the output of ``python ARGUMENTS`` to a terminal."""
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    left_out = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")  # the terminal states its size
    environment = {k: v for k, v in os.environ.items() if k not in left_out}
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=terminal, stdout=terminal, stderr=terminal, cwd=ROOT,
        env={**environment, "TERM": "xterm-256color", **variables},
    )  # fmt: skip
    os.close(terminal)
    content = b""
    try:
        while chunk := os.read(master, 65_536):
            content += chunk
    except OSError:  # Linux raises it when the process has closed the terminal
        pass
    os.close(master)
    process.wait(60)
    return content.decode()


@pytest.fixture(params=["an error", "a result"])
def arguments(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """Arguments of a command that prints colours on a terminal."""
    if request.param == "an error":
        return ["verify", "missing.tflite"]
    return ["report", "tests/golden/schema-2.json", "--output", str(tmp_path / "report.md")]


@pytest.mark.costly
def test_a_terminal_gets_colours_unless_no_color_is_set(arguments: list[str]) -> None:
    assert COLOUR.search(on_a_terminal(*arguments))
    assert not COLOUR.search(on_a_terminal(*arguments, NO_COLOR="1"))
    # By no-color.org an empty value has no effect.
    assert COLOUR.search(on_a_terminal(*arguments, NO_COLOR=""))


def test_a_pipe_gets_no_colours(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lenet_edge", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example_and_fits_80_columns(command: str) -> None:
    text = on_a_terminal(command, "--help")
    assert f"Example: lenet-edge {command}" in text
    assert max(map(len, text.splitlines())) <= 80


LONG_NAME = "visual_wake_words_mobilenet_v1_025_96x96_quantized_per_channel.int8.tflite"
BARS = f"""
import time
from types import SimpleNamespace
from lenet_edge.cli._terminal import progress_bar, training_progress
with progress_bar("Bench", 9000) as step:
    for _ in range(40):
        step("{LONG_NAME} on litert-xnnpack, batch 128")
        time.sleep(0.01)
with training_progress() as report:
    for step in range(1, 41):
        report(SimpleNamespace(epoch=1, epochs=60, step=step, steps_per_epoch=100, loss=0.1,
                               accuracy=0.9812, learning_rate=1e-3, images_per_s=1234567.8))
        time.sleep(0.01)
"""


@pytest.mark.costly
@pytest.mark.parametrize("columns", [60, 80])
def test_the_time_left_stays_visible(columns: int) -> None:
    text = run_on_a_terminal(["-c", BARS], {}, columns)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").splitlines()
    assert max(map(len, lines)) <= columns
    for title in ("Bench", "Epoch 1/60"):
        assert any(re.match(rf"{title} .* \d:\d\d:\d\d ", line) for line in lines), lines


def test_a_log_gets_a_line_for_5_percent_or_10_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The clock is a stand-in: 204 processes take 1.5 seconds each, and 10 of them a minute."""
    now_s = 0.0
    monkeypatch.setattr("lenet_edge.cli._terminal.time.monotonic", lambda: now_s)
    with _terminal.progress_bar("Bench", 204) as step:
        for number in range(1, 205):
            now_s += 60 if number > 194 else 1.5
            step(f"process {number}")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Bench 1/204: process 1 (5 min left)")
    assert lines[-1] == "Bench 204/204: process 204"
    assert [line.split()[1] for line in lines[-10:]] == [f"{n}/204:" for n in range(195, 205)]
    assert len(lines) == 1 + 27 + 10
    with _terminal.progress_bar("Check", 1000) as step:  # 1000 steps in no time
        for number in range(1000):
            step(f"{number}")
    assert len(capsys.readouterr().err.splitlines()) == 2


def completions(words: str) -> list[str]:
    """Return the completions of the last word in a command line, as Bash receives them."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lenet-edge")],
        env={
            **os.environ, "_LENET_EDGE_COMPLETE": "bash_complete", "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        },
        capture_output=True, text=True,
    )  # fmt: skip
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_the_shell_completes_commands_and_options() -> None:
    assert sorted(completions("lenet-edge ")) == sorted(COMMANDS)
    assert completions("lenet-edge repo") == ["report"]
    assert set(completions("lenet-edge report --max")) == {
        "--max-accuracy-drop", "--max-latency", "--max-bytes", "--max-flash", "--max-ram",
    }  # fmt: skip


def test_bash_accepts_the_completion_line_of_the_documents() -> None:
    (line,) = re.findall(r"^eval .*$", (ROOT / "docs" / "terminal.md").read_text(), re.MULTILINE)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", f"{line}\ncomplete -p lenet-edge"],
        env={**os.environ, "PATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    assert "lenet-edge" in done.stdout, done.stderr


CONTROL_SEQUENCES = "\x1b]0;owned\x07\x1b[2J\r\u202e[/bold][red]:smile:"


@pytest.mark.costly
def test_untrusted_names_cannot_control_the_terminal(tmp_path: Path) -> None:
    """Print a class, a layer and a file whose names hold control sequences."""
    from dataclasses import replace

    import onnx

    from lenet_edge.artifacts.artifact import load_artifact, write_manifest
    from lenet_edge.runtimes import _probe

    model = tmp_path / f"{CONTROL_SEQUENCES.replace('/', '')}.onnx"
    graph = onnx.load(_probe.FOLDER / "probe.onnx")
    graph.graph.node[0].name = CONTROL_SEQUENCES
    onnx.save(graph, model)
    probe = load_artifact(_probe.FOLDER / "probe.onnx")
    from lenet_edge.support.files import sha256_of

    labels = tuple(
        f"{CONTROL_SEQUENCES}{place}" for place in range(probe.outputs[0].shape[-1] or 0)
    )
    write_manifest(replace(probe, path=model, labels=labels, sha256=sha256_of(model)))
    image = ROOT / "tests" / "data" / "handwriting" / "7-hasty-crayon.jpg"
    for command in (
        ("inspect", str(model)), ("predict", str(image), "--model", str(model)),
        ("bench", str(model), "--batch-size", "9", "--target", "litret"),
        ("verify", str(model) + "x"),
    ):  # fmt: skip
        text = on_a_terminal(*command)
        assert "owned" in text or command[0] == "bench"
        # lenet-edge itself prints colours and line ends.
        rest = re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\r\n", "")
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", rest), rest
        assert "Traceback" not in text
