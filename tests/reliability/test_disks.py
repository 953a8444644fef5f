"""A disk that is full, and one that is read-only: one clear line, and every old file whole."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reliability import disk
from tests.reliability.conftest import Run
from tests.reliability.jobs import JOBS, Job, look

_ROOMY = "size=40m"
# From no room at all to nearly enough: each try comes a little further.
_FREE_BYTES = {"train": (0, 780_000), "export": (0, 262_144)}
_SLOW = ("train", "export", "bench", "report", "bundle")
_JOBS = [
    pytest.param(job, id=job.name, marks=[pytest.mark.slow] if job.name in _SLOW else [])
    for job in JOBS
]


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """The folder that the jobs write to, on a file system of its own."""
    try:
        with disk.mounted(tmp_path / "out", _ROOMY) as folder:
            yield folder
    except OSError as error:
        pytest.skip(f"only root can mount a small disk, and not everywhere: {error}")


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def used_bytes(folder: Path) -> int:
    about = os.statvfs(folder)
    return (about.f_blocks - about.f_bfree) * about.f_frsize


def the_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line that the error must be."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = (one for one in done.stderr.splitlines() if one.startswith("Error: "))
    assert done.stderr.splitlines()[-1] == line
    return line


@pytest.mark.parametrize("job", _JOBS)
def test_a_full_disk_and_a_read_only_one(
    job: Job, out: Path, run: Run, request: pytest.FixtureRequest
) -> None:
    inputs = request.getfixturevalue("inputs") if job.imports else Path()  # TensorFlow makes them
    first, second = (job.arguments(inputs, which) for which in (0, 1))
    assert run(out.parent, first).returncode == 0
    old = look(out)
    remount(out, "ro")
    line = the_line(run(out.parent, second))
    assert "cannot write" in line
    assert "Read-only file system; check the folder" in line
    assert look(out) == old
    remount(out, "rw")
    for free in _FREE_BYTES.get(job.name, (0,)):
        remount(out, f"size={used_bytes(out) + free}")
        line = the_line(run(out.parent, job.go_on(out.parent, second)))
        assert "cannot write" in line
        assert "No space left on device; check the folder and its free space" in line
        assert old.keys() <= look(out).keys()  # which reads each, and holds it to its manifest
        assert [one.name for one in out.rglob(".*") if not one.name.startswith(".next")] == []
    remount(out, _ROOMY)
    done = run(out.parent, job.go_on(out.parent, second))
    assert done.returncode == 0, done.stderr
    assert old.keys() <= look(out).keys()
    assert list(out.rglob(".*")) == []
