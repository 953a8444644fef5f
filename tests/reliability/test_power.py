"""A short form of `power`: a few kills per command, at other moments than in the full run."""

from __future__ import annotations

from pathlib import Path

import pytest

from lenet_edge.support.files import atomic_write
from tests import needs
from tests.reliability.disk import Disk, why_no_disk
from tests.reliability.jobs import JOBS, KilledCommand, NotWholeError, hash_files
from tests.reliability.power import kill_often

_KILLS = {"report": 5, "verify": 3, "bench": 3, "bundle": 3, "export": 2, "train": 2}


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_killed_at_any_moment(job: KilledCommand, inputs: Path, tmp_path: Path) -> None:
    """200 kills: python -m tests.reliability.power"""
    outcome = kill_often(job, _KILLS[job.name], inputs, tmp_path, seed=99)
    assert outcome.failures == []
    assert outcome.kills == _KILLS[job.name]


def test_the_disk_loses_data_that_was_not_synced(tmp_path: Path) -> None:
    """A program that does not sync loses its file, `atomic_write` does not.

    Without this, the kills would prove nothing. `atomic_write` syncs the folder too, because the
    name of a new file would be lost otherwise.
    """
    if reason := why_no_disk():
        needs.leave_out(reason)
    with Disk(tmp_path) as disk:
        old, new, careless = (disk.folder / name for name in ("old", "new", "careless"))
        for path, text in ((old, "old"), (old, "changed"), (new, "new")):
            with atomic_write(path) as temporary:
                temporary.write_text(text)
        careless.with_name("temporary").write_text("careless")
        careless.with_name("temporary").replace(careless)
        disk.photograph()
        assert careless.read_text() == "careless"
        disk.cut()
        assert (old.read_text(), new.read_text()) == ("changed", "new")
        assert not careless.exists() or careless.read_text() == ""


def test_an_incomplete_file_is_detected(tmp_path: Path) -> None:
    """The check of files after a kill fails on truncated files."""
    results = Path("tests/golden/schema-3.json").read_bytes()
    page = b"<html>" + bytes(1000) + b"</html>\n"
    for name, content in (("found.json", results), ("report.html", page), ("lenet.h", b"x" * 9)):
        path = tmp_path / name
        path.write_bytes(content + b"\n")
        assert list(hash_files(tmp_path)) == [name]
        for size in (0, len(content) // 2):
            path.write_bytes(content[:size])
            with pytest.raises(NotWholeError):
                hash_files(tmp_path)
        path.unlink()
