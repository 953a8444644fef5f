"""Deploying where it is fast: see `near.py`."""

from __future__ import annotations

import importlib
import io
import subprocess
from pathlib import Path

import pytest

from tests.deploy.near import FILES, Near, main


@pytest.mark.slow
def test_cut_off_at_random_it_stays_whole(tmp_path: Path) -> None:
    main(5, 7, tmp_path)


@pytest.mark.slow
def test_files_of_any_name_arrive(tmp_path: Path) -> None:
    """Names go through JSON, never through a shell; nor does the home, which is as bad."""
    near = Near(tmp_path)
    odd = tmp_path / 'it\'s "$(touch owned)" a\nfile; é.tflite'
    odd.write_bytes(FILES[0].read_bytes())
    for path in FILES[0].parent.glob("reference-*.npz"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / f"{odd.name}.json").write_bytes(Path(f"{FILES[0]}.json").read_bytes())
    near.deploy(odd)
    assert list(near.home.rglob(odd.name))
    assert not list(tmp_path.rglob("owned"))
    near.check()


@pytest.mark.needs("systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))  # it is asked nothing
    from lenet_edge.deploy import on_board

    on_board = importlib.reload(on_board)  # its folders are below this home
    on_board._write(on_board.COMMAND, "#!/bin/sh\n", 0o755)
    on_board._write(on_board.UNIT, on_board._unit_text(["serve", "--host", "0.0.0.0"]), 0o600)
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", str(on_board.UNIT)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if "lenet-edge" in line]
    assert (done.returncode, said) == (0, [])
