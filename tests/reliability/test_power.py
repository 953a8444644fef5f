"""The bounded form of `power`: a few kills of each command, other moments than in the full run."""

from __future__ import annotations

from pathlib import Path

import pytest

from lenet_edge.support.files import atomic_write
from tests import needs
from tests.reliability.disk import Disk, why_no_disk
from tests.reliability.jobs import JOBS, Job, NotWholeError, look
from tests.reliability.power import kill_often

_KILLS = {"report": 8, "verify": 5, "bench": 3, "bundle": 4, "export": 3, "train": 3}


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_killed_at_any_moment(job: Job, inputs: Path, tmp_path: Path) -> None:
    """200 kills: python -m tests.reliability.power"""
    outcome = kill_often(job, _KILLS[job.name], inputs, tmp_path, seed=99)
    assert outcome.failures == []
    assert outcome.kills == _KILLS[job.name]


def test_the_disk_loses_what_was_not_synced(tmp_path: Path) -> None:
    """Or the kills would prove nothing: a careless program loses its file, `atomic_write` does not.

    The folder is synced too: of the second file it is the name that would be lost.
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


def test_half_a_file_would_be_seen(tmp_path: Path) -> None:
    """What the kills are judged by, on files cut in half."""
    results = Path("tests/golden/schema-3.json").read_bytes()
    page = b"<html>" + bytes(1000) + b"</html>\n"
    for name, content in (("found.json", results), ("report.html", page), ("lenet.h", b"x" * 9)):
        path = tmp_path / name
        path.write_bytes(content + b"\n")
        assert list(look(tmp_path)) == [name]
        for size in (0, len(content) // 2):
            path.write_bytes(content[:size])
            with pytest.raises(NotWholeError):
                look(tmp_path)
        path.unlink()
