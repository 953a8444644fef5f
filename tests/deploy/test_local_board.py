"""Tests of deployments to this machine, which are fast; see `local_board.py`."""

from __future__ import annotations

import importlib
import io
import subprocess
from pathlib import Path

import pytest

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
