"""Tests of deployments to this machine, which are fast; see `local_board.py`."""

from __future__ import annotations

import dataclasses
import importlib
import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from lenet_edge.artifacts.reference import Reference
from lenet_edge.data import mnist
from tests.deploy.local_board import FILES, LocalBoard, main


@pytest.mark.slow
def test_interrupted_deployments_leave_a_working_board(tmp_path: Path) -> None:
    main(3, 7, tmp_path)


@pytest.mark.slow
def test_file_names_need_no_quoting(tmp_path: Path) -> None:
    """File names travel as JSON, never through a shell. The home folder has special characters."""
    board = LocalBoard(tmp_path)
    file = tmp_path / 'it\'s "$(touch owned)" a\nfile; é.tflite'
    file.write_bytes(FILES[0].read_bytes())
    for path in FILES[0].parent.glob("reference-*.npz"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / f"{file.name}.json").write_bytes(Path(f"{FILES[0]}.json").read_bytes())
    board.deploy(file)
    assert list(board.home.rglob(file.name))
    assert not list(tmp_path.rglob("owned"))
    board.check_command()


@pytest.mark.slow
def test_the_exit_status_is_that_of_the_worst_file(tmp_path: Path) -> None:
    board, file = LocalBoard(tmp_path), FILES[0].with_name("lenet_native_int8.c")
    for path in (file, Path(f"{file}.json"), file.with_suffix(".h")):
        shutil.copy(path, tmp_path)
    (path,) = file.parent.glob("reference-*.npz")
    whole, test = Reference.load(path), mnist.load("test")
    few = dataclasses.replace(
        whole, logits=whole.logits[:30], images=test.images[:30], labels=test.labels[:30]
    )

    def deploy(reference: Reference, *more: str | Path) -> subprocess.CompletedProcess[str]:
        reference.save(tmp_path / path.name)
        short = ("--runtime", "native", "--batch-size", "1", "--max-time", "0.05")
        process = board.start(tmp_path / file.name, *more, *short)
        output = process.communicate(timeout=600)
        return subprocess.CompletedProcess([], process.returncode, *output)

    done = deploy(few, FILES[0], "--dry-run")
    assert done.returncode == 1, done.stderr
    assert "lenet_int8.tflite was left out: native cannot read it; name" in done.stderr
    done = deploy(few)
    assert done.returncode == 4, done.stderr
    used = board.command.read_text()
    done = deploy(dataclasses.replace(few, logits=np.roll(few.logits, 1, axis=1)))
    assert done.returncode == 3, done.stderr
    assert board.command.read_text() == used


@pytest.mark.needs("systemd-analyze")
def test_systemd_accepts_the_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))  # no requests
    from lenet_edge.deploy import on_board

    on_board = importlib.reload(on_board)  # its paths are in this home folder
    on_board._write(on_board.COMMAND, "#!/bin/sh\n", 0o755)
    on_board._write(on_board.UNIT, on_board._unit_text(["serve", "--host", "0.0.0.0"]), 0o600)
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", str(on_board.UNIT)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    problems = [line for line in done.stderr.splitlines() if "lenet-edge" in line]
    assert (done.returncode, problems) == (0, [])
