"""No command runs code from the current folder, here or on a board."""

from __future__ import annotations

import ast
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest

from lenet_edge.cli import main
from lenet_edge.support.python_command import python_module, python_program
from tests.current_folder import early_names, fill

ROOT = Path(__file__).parents[1]
EXPORTED = ROOT / "exported"
CONSOLE_SCRIPT = [str(Path(sys.executable).with_name("lenet-edge"))]
# What sshd does with a command. The boards of this test are folders of this machine.
SSH = """#!/bin/sh
while [ "$1" != -- ]; do shift; done
shift 2
cd "$BOARD_HOME" && HOME=$BOARD_HOME exec sh -c "$1"
"""
# The commands, each with arguments that bring it as far as possible.
QUICK = (
    "describe lenet_int8.tflite",
    "inspect lenet_int8.tflite",
    "predict seven.jpg --model lenet_int8.tflite",
    "deploy pi@local --uninstall",
    "verify lenet_native_int8.c --target native-cpu",
)
SLOW = (
    "bench lenet_int8.tflite lenet_native_int8.c --target litert --target native --batch-size 1"
    " --min-time 0.05 --max-time 0.1",
    "bundle lenet_int8.tflite",
    "deploy pi@local lenet_int8.tflite --batch-size 1 --max-time 0.1",
    "card --check card.md",
    "compare results.json results.json",
    "doctor --job board",
    "estimate lenet_int8.tflite --accelerator ethos-u55-128",
    "export lenet.keras --all --format tflite --format onnx --format native --format wasm"
    " --format c --dataset few.npz --output-dir out",
    "finetune lenet.keras --dataset few.npz --epochs 1 --output tuned.keras",
    "fleet up --port {port}",
    "fleet status --port {port}",
    "fleet down --port {port}",
    "history .",
    "report results.json",
    "run lenet.keras --dataset few.npz --batch-size 1",
    "search --dataset few.npz --trials 1 --epochs 1",
    "serve lenet_int8.tflite --port 0",
    "targets",
    "train --dataset few.npz --epochs 1 --batch-size 20 --output new.keras",
    "tune lenet.keras --output-dir out",
)
# Seconds until a command is stopped; CURRENT_FOLDER_SECONDS lets the long ones come to their end.
LIMIT_S = float(os.environ.get("CURRENT_FOLDER_SECONDS", "4"))
LONGER_S = {"deploy": 30}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of model files and of code that must not run; the folder `marks` is beside it."""
    base = tmp_path_factory.mktemp("hostile")
    folder, marks = base / "folder", base / "marks"
    for path in (folder, marks, base / "bin", base / "cache"):
        path.mkdir()
    fill(folder, marks)
    for name in ("lenet_int8.tflite", "lenet_native_int8.c", "lenet.keras"):
        for path in (EXPORTED / name, EXPORTED / f"{name}.json"):
            (folder / path.name).write_bytes(path.read_bytes())
    for path in EXPORTED.glob("reference-*.npz"):
        (folder / path.name).write_bytes(path.read_bytes())
    digit = ROOT / "tests" / "data" / "handwriting" / "7-hasty-crayon.jpg"
    (folder / "seven.jpg").write_bytes(digit.read_bytes())
    (folder / "card.md").write_text("---\nlicense: mit\n---\n# A model\n")
    results = ROOT / "tests" / "golden" / "schema-4.json"
    (folder / "results.json").write_bytes(results.read_bytes())
    images = np.random.default_rng(1).integers(0, 256, (40, 28, 28), np.uint8)
    labels = np.arange(40) % 10
    np.savez(folder / "few.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    (folder / "fleet.toml").write_text(
        f'[boards.board]\nssh = "local"\npython = "{sys.executable}"\n'
    )
    (base / "bin" / "ssh").write_text(SSH)
    (base / "bin" / "ssh").chmod(0o755)
    return folder


def run_in(folder: Path, command: list[str], limit_s: float = 60) -> tuple[int | None, str]:
    """Run a command in the folder; return its status, None if it was stopped, and its output."""
    base = folder.parent
    environment = {
        **os.environ, "BOARD_HOME": str(folder), "XDG_CACHE_HOME": str(base / "cache"),
        "PATH": f"{base / 'bin'}:{os.environ['PATH']}",
    }  # fmt: skip
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    status = None
    with contextlib.suppress(subprocess.TimeoutExpired):
        status = process.wait(limit_s)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return status, process.communicate()[0]


def marks_of(folder: Path) -> set[str]:
    """Return the names of the files whose code has run, and forget them."""
    marks = list((folder.parent / "marks").iterdir())
    for mark in marks:
        mark.unlink()
    return {mark.name for mark in marks}


def test_the_trap_works(hostile: Path) -> None:
    """Python itself falls into it: the folder is first on the path of ``python -c``."""
    run_in(hostile, [sys.executable, "-c", "import json"])
    assert marks_of(hostile) == {"json"}


@pytest.mark.costly
@pytest.mark.parametrize(
    "line", [*QUICK, *(pytest.param(line, marks=pytest.mark.slow) for line in SLOW)]
)
def test_no_command_runs_code_of_the_current_folder(hostile: Path, line: str) -> None:
    command = [*CONSOLE_SCRIPT, *line.format(port=23986).split()]
    limit_s = max(LIMIT_S, LONGER_S.get(command[1], 0)) if line in SLOW else 60
    status, output = run_in(hostile, command, limit_s)
    assert marks_of(hostile) == set(), output
    is_refused = "was exported by lenet-edge" in output  # by describe, once a worker has read it
    is_undecided = command[1] == "report" and status == 4  # a bench proves nothing
    assert status in (0, None) or is_refused or is_undecided, output


def test_plots_ignore_the_settings_of_the_current_folder(hostile: Path) -> None:
    """Matplotlib would read them first, and old versions evaluate an expression in them."""
    plot = (
        "from pathlib import Path; from lenet_edge.report.plots import plot_training;"
        "plot_training([{'epoch': 1, 'loss': 1, 'accuracy': 0.5}], 'title', Path('curve.png'))"
    )
    status, output = run_in(hostile, python_program(plot))
    assert (status, marks_of(hostile)) == (0, set()), output


def test_every_command_is_tried() -> None:
    tried = {line.split()[0] for line in (*QUICK, *SLOW)}
    assert tried == {*main.list_commands(click.Context(main))}


@pytest.mark.costly
def test_the_module_runs_no_code_of_the_current_folder(hostile: Path, tmp_path: Path) -> None:
    """``python -m`` searches the folder for the package itself, and for Python's first modules."""
    folder = tmp_path / "folder"
    folder.mkdir()
    early = early_names()
    for path in hostile.iterdir():
        if path.is_file() and path.stem not in early:
            (folder / path.name).write_bytes(path.read_bytes())
    line = "-m lenet_edge predict seven.jpg --model lenet_int8.tflite"
    status, output = run_in(folder, [sys.executable, *line.split()])
    assert marks_of(hostile) == set(), output
    assert status == 0, output


@pytest.mark.parametrize(
    "command", [python_program("import json; print('ran')"), python_module("json.tool", "--help")]
)
def test_children_import_nothing_from_the_current_folder(hostile: Path, command: list[str]) -> None:
    status, output = run_in(hostile, command)
    assert (status, marks_of(hostile)) == (0, set()), output
    assert output.startswith(("ran", "usage: "))


def literals_of(path: Path) -> set[object]:
    tree = ast.parse(path.read_text())
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}


# Other programs with an option -c.
NO_PYTHON = {
    "support/repository.py",
    "microcontrollers/footprint.py",
    "microcontrollers/program.py",
}


def test_python_is_started_in_one_way() -> None:
    """Only `support.python_command` writes -c or -m, which put the current folder on the path."""
    package = ROOT / "lenet_edge"
    launchers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if literals_of(path) & {"-c", "-m"}
    }
    assert launchers == {"support/python_command.py", *NO_PYTHON}
