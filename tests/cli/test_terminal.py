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

from tests.test_docs import COMMANDS

COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-7]|9[0-7]|4[0-7])[0-9;]*m")
ROOT = Path(__file__).parents[2]


def on_a_terminal(*arguments: str, **variables: str) -> str:
    """Return the output of ``lenet-edge ARGUMENTS`` to a terminal of 80 columns."""
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "lenet_edge", *arguments],
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
