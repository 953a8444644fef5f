"""Deploying where it is fast: see `near.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.near import FILES, Near, main

pytestmark = pytest.mark.slow


def test_cut_off_at_random_it_stays_whole(tmp_path: Path) -> None:
    main(5, 7, tmp_path)


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
