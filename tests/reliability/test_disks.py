"""A full and a read-only disk: commands print one clear line and keep every old file."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reliability import disk
from tests.reliability.conftest import Run
from tests.reliability.jobs import JOBS, KilledCommand, hash_files

_ROOMY = "size=40m"
# Free bytes of each run: from none to nearly enough, so that each run gets a little further.
_FREE_BYTES = {"train": (0, 780_000), "export": (0, 262_144)}
_SLOW = ("train", "export", "bench", "report", "bundle")
_JOBS = [
    pytest.param(job, id=job.name, marks=[pytest.mark.slow] if job.name in _SLOW else [])
    for job in JOBS
]


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """The folder that the commands write to, on a separate file system."""
    try:
        with disk.mounted(tmp_path / "out", _ROOMY) as folder:
            yield folder
    except OSError as error:
        pytest.skip(f"only root can mount a small disk, and not everywhere: {error}")


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def used_bytes(folder: Path) -> int:
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def error_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the only line of an error message."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("Error: "))
    assert done.stderr.splitlines()[-1] == line
    return line


@pytest.mark.costly
@pytest.mark.parametrize("job", _JOBS)
def test_a_full_disk_and_a_read_only_one(
    job: KilledCommand, out: Path, run: Run, request: pytest.FixtureRequest
) -> None:
    inputs = request.getfixturevalue("inputs") if job.imports else Path()  # they need TensorFlow
    first, second = (job.arguments(inputs, which) for which in (0, 1))
    assert run(out.parent, first).returncode == job.status
    old = hash_files(out)
    remount(out, "ro")
    line = error_line(run(out.parent, second))
    assert "cannot write" in line
    assert "Read-only file system; check the folder" in line
    assert hash_files(out) == old
    remount(out, "rw")
    for free in _FREE_BYTES.get(job.name, (0,)):
        remount(out, f"size={used_bytes(out) + free}")
        line = error_line(run(out.parent, job.go_on(out.parent, second)))
        assert "cannot write" in line
        assert "No space left on device; check the folder and its free space" in line
        assert old.keys() <= hash_files(out).keys()  # hash_files also checks each manifest
        assert [path.name for path in out.rglob(".*") if not path.name.startswith(".next")] == []
    remount(out, _ROOMY)
    done = run(out.parent, job.go_on(out.parent, second))
    assert done.returncode == job.status, done.stderr
    assert old.keys() <= hash_files(out).keys()
    assert list(out.rglob(".*")) == []
