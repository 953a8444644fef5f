"""Files are replaced whole or not at all, whatever ends the writer."""

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


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(".tmp-"))


def test_a_block_that_ends_well_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.txt"
    for text in ("first", "second"):
        with atomic_write(path) as temporary:
            assert temporary.suffix == ".txt"
            temporary.write_text(text)
        assert path.read_text() == text
    assert leftovers(path.parent) == []


class InTheBlockError(Exception):
    pass


def test_an_exception_in_the_block_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(InTheBlockError), atomic_write(path) as temporary:
        temporary.write_text("half of the n")
        raise InTheBlockError
    assert path.read_text() == "old"
    assert leftovers(tmp_path) == []


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("I am no folder")
    path = tmp_path / "file" / "result.json"
    with pytest.raises(LenetEdgeError, match=rf"cannot write {path}: .*; check the folder"):
        with atomic_write(path):
            raise AssertionError("not reached")
    assert (tmp_path / "file").read_text() == "I am no folder"


def test_the_name_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(LenetEdgeError, match=r"cannot write .*taken: Is a directory"):
        with atomic_write(tmp_path / "taken") as temporary:
            temporary.write_text("text")
    assert leftovers(tmp_path) == []


def mount_tmpfs(folder: Path, options: str) -> None:
    """Mount a small file system on `folder`, or skip: only root can."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode != 0:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount_tmpfs(folder, "size=64k")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_leaves_the_old_file(tiny_disk: Path) -> None:
    path = tiny_disk / "file.bin"
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"old")
    with pytest.raises(LenetEdgeError, match=r"No space left on device; check .* free space"):
        with atomic_write(path) as temporary:
            temporary.write_bytes(bytes(100_000))
    assert path.read_bytes() == b"old"
    assert leftovers(tiny_disk) == []
    with atomic_write(path) as temporary:  # and what was written of it is free again
        temporary.write_bytes(bytes(40_000))
    assert path.stat().st_size == 40_000


def test_a_read_only_folder_is_one_clear_line(tmp_path: Path) -> None:
    """Root may write into any folder; on a file system that is read-only even root may not."""
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


def test_kill_9_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    others = sorted(other.name for other in tmp_path.iterdir() if other != path)
    assert others == leftovers(tmp_path)
    assert len(others) <= 1
    with atomic_write(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    command = [sys.executable, "-c", KILLED_WHILE_WRITING, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as living:
        assert living.stdout
        living.stdout.readline()
        with atomic_write(path) as temporary:
            temporary.write_text("new")
        assert len(leftovers(tmp_path)) == 1  # it is being written
        living.kill()
    with atomic_write(path) as temporary:
        temporary.write_text("newer")
    assert leftovers(tmp_path) == []
    assert path.read_text() == "newer"
