"""The cache of wheels, which boards install and run; a stand-in replaces the download."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lenet_edge.deploy import wheels
from lenet_edge.deploy.wheels import SYSTEMS, System, find_wheels
from lenet_edge.errors import LenetEdgeError


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were downloaded to."""
    folders = []

    def download(system: System, requirements: list[str], folder: Path, note: object) -> None:
        folder.mkdir()
        (folder / "pip-1-py3-none-any.whl").write_bytes(b"complete")
        folders.append(folder)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(wheels, "_download", download)
    return folders


def find() -> Path:
    (wheel,) = find_wheels(SYSTEMS["bookworm-arm64"], ["litert"]).wheels
    return wheel


def test_a_damaged_or_foreign_wheel_is_downloaded_again(downloads: list[Path]) -> None:
    wheel = find()
    assert (find(), len(downloads)) == (wheel, 1)
    wheel.write_bytes(b"damaged")
    assert find().read_bytes() == b"complete"
    wheel.with_name("evil-1-py3-none-any.whl").write_bytes(b"evil")
    assert (find(), len(downloads)) == (wheel, 3)


def test_a_cache_that_others_can_write_to_is_refused(downloads: list[Path]) -> None:
    folder = find().parents[1]
    assert [path.name for path in folder.iterdir()] == [find().parent.name]  # nothing is left over
    os.chmod(folder, 0o777)
    with pytest.raises(LenetEdgeError, match=r"other users can write to .*wheels"):
        find()
