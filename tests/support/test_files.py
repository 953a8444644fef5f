"""Tests of atomic file replacement: the old file survives every failure of the writer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lenet_edge.errors import LenetEdgeError
from lenet_edge.support.files import atomic_write


def temporary_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(".tmp-"))


def test_successful_block_replaces_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.txt"
    for text in ("first", "second"):
        with atomic_write(path) as temporary:
            assert temporary.suffix == ".txt"
            temporary.write_text(text)
        assert path.read_text() == text
    assert temporary_files(path.parent) == []


class InTheBlockError(Exception):
    pass


def test_exception_in_block_keeps_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(InTheBlockError), atomic_write(path) as temporary:
        temporary.write_text("half of the n")
        raise InTheBlockError
    assert path.read_text() == "old"
    assert temporary_files(tmp_path) == []


def test_parent_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    path = tmp_path / "file" / "result.json"
    with pytest.raises(LenetEdgeError, match=rf"cannot write {path}: .*; check the folder"):
        with atomic_write(path):
            raise AssertionError("not reached")
    assert (tmp_path / "file").read_text() == "not a folder"


def test_path_of_an_existing_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(LenetEdgeError, match=r"cannot write .*folder: Is a directory"):
        with atomic_write(tmp_path / "folder") as temporary:
            temporary.write_text("text")
    assert temporary_files(tmp_path) == []


def mount_tmpfs(folder: Path, options: str) -> None:
    """Mount a tmpfs on `folder`, or skip the test: only root can mount."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("the mount command is missing")
    if done.returncode != 0:
        pytest.skip(f"a file system cannot be mounted: {done.stderr.strip()}")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield the mount point of a file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount_tmpfs(folder, "size=64k")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_full_disk_keeps_old_file(tiny_disk: Path) -> None:
    path = tiny_disk / "file.bin"
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"old")
    with pytest.raises(LenetEdgeError, match=r"No space left on device; check .* free space"):
        with atomic_write(path) as temporary:
            temporary.write_bytes(bytes(100_000))
    assert path.read_bytes() == b"old"
    assert temporary_files(tiny_disk) == []
    with atomic_write(path) as temporary:  # the failed write has freed its space
        temporary.write_bytes(bytes(40_000))
    assert path.stat().st_size == 40_000


def test_read_only_folder_is_reported(tmp_path: Path) -> None:
    """Root can write into every folder, so for root a read-only file system is mounted."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    if os.getuid() == 0:
        mount_tmpfs(folder, "ro,size=64k")
    else:
        folder.chmod(0o500)
    try:
        with pytest.raises(LenetEdgeError, match=r"cannot write .*: (Read-only|Permission denied)"):
            with atomic_write(folder / "file.txt") as temporary:
                temporary.write_text("text")
        assert list(folder.iterdir()) == []
    finally:
        if os.getuid() == 0:
            subprocess.run(["umount", folder], check=True)


KILLED_WHILE_WRITING = """
import sys, time
from pathlib import Path
from typing import Any
from lenet_edge.support.files import atomic_write
with atomic_write(Path(sys.argv[1])) as temporary, temporary.open("w") as file:
    file.write("half of the n")
    file.flush()
    print("writing", flush=True)
    time.sleep(60)
"""


def test_sigkill_during_write_keeps_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    other_files = sorted(other.name for other in tmp_path.iterdir() if other != path)
    assert other_files == temporary_files(tmp_path)
    assert len(other_files) <= 1
    with atomic_write(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_temporary_file_of_killed_process_is_deleted(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout
        writer.stdout.readline()
        with atomic_write(path) as temporary:
            temporary.write_text("new")
        assert len(temporary_files(tmp_path)) == 1  # that of the running writer
        writer.kill()
    with atomic_write(path) as temporary:
        temporary.write_text("newer")
    assert temporary_files(tmp_path) == []
    assert path.read_text() == "newer"
