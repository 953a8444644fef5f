"""Tests of atomic file replacement: the old file survives every failure of the writer."""

from __future__ import annotations

import ast
import os
import pwd
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lenet_edge
from lenet_edge.errors import LenetEdgeError
from lenet_edge.support.files import (
    atomic_folder,
    atomic_write,
    create_log,
    private_cache_folder,
    short_name,
)

PACKAGE = Path(lenet_edge.__file__).parent


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


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder"
    for name in ("first", "second"):
        with atomic_folder(path, 0o700) as folder:
            (folder / name).write_text(name)
        assert [file.name for file in path.iterdir()] == [name]
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    with pytest.raises(InTheBlockError), atomic_folder(path) as folder:
        (folder / "third").write_text("half of the n")
        raise InTheBlockError
    assert [file.name for file in path.iterdir()] == ["second"]
    with pytest.raises(LenetEdgeError, match="cannot write"), atomic_folder(path) as folder:
        folder.rmdir()  # so that it cannot be renamed
    assert [file.name for file in path.iterdir()] == ["second"]
    (path.parent / "link").symlink_to("nowhere")
    with atomic_folder(path.parent / "link"):
        pass
    assert (path.parent / "link").is_dir()
    assert temporary_files(path.parent) == []


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
from lenet_edge.support.files import (
    atomic_folder,
    atomic_write,
    create_log,
    private_cache_folder,
    short_name,
)
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


def test_link_is_followed_and_a_dangling_one_creates_its_target(tmp_path: Path) -> None:
    """Also a chain of links, relative to the folder of each link."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "first").symlink_to("folder/second")
    (tmp_path / "folder" / "second").symlink_to("../target")
    for text in ("created", "replaced"):
        with atomic_write(tmp_path / "first") as temporary:
            assert temporary.parent == tmp_path
            temporary.write_text(text)
        assert (tmp_path / "target").read_text() == text
    assert (tmp_path / "first").is_symlink()
    assert (tmp_path / "folder" / "second").is_symlink()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_mode_of_a_replaced_file_is_kept(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    path.chmod(mode)
    with atomic_write(path) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600  # nobody else reads it before
        temporary.write_text("new")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("new", mode)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has files of other users")


@needs_root
def test_link_or_file_of_another_user_in_a_shared_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    tmp_path.chmod(0o1777)
    link = tmp_path / "report.html"
    link.symlink_to("precious")
    os.chown(link, 12345, 12345, follow_symlinks=False)
    (tmp_path / "mine").write_text("theirs")
    os.chown(tmp_path / "mine", 12345, 12345)
    for path in (link, tmp_path / "mine"):
        with pytest.raises(LenetEdgeError, match="it belongs to another user, and all can write"):
            with atomic_write(path) as temporary:
                temporary.write_text("text")
    assert (tmp_path / "precious").read_text() == "precious"
    assert (tmp_path / "mine").read_text() == "theirs"


@needs_root
@pytest.mark.parametrize("kind", [stat.S_IFBLK, stat.S_IFSOCK])
def test_block_device_or_socket_is_refused(tmp_path: Path, kind: int) -> None:
    try:
        os.mknod(tmp_path / "node", kind | 0o600, os.makedev(7, 250))
    except PermissionError:
        pytest.skip("this file system cannot have device files")
    with pytest.raises(LenetEdgeError, match=r"node: it is a (block device|socket)"):
        with atomic_write(tmp_path / "node"):
            raise AssertionError("not reached")
    assert stat.S_IFMT((tmp_path / "node").lstat().st_mode) == kind


def test_reader_that_ends_early_is_reported(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(LenetEdgeError, match="Broken pipe; its reader has ended"):
        with atomic_write(Path(f"/dev/fd/{writer}")) as temporary:
            temporary.write_text("text")
    os.close(writer)


@pytest.mark.parametrize("count", [124, 60])
def test_longest_name_can_be_written(tmp_path: Path, count: int) -> None:
    path = tmp_path / f"{'ü' * count}nn.json"  # 255 bytes, and 127
    (tmp_path / f".tmp-00000000-{short_name(path.name)}").touch()  # of a process that was killed
    with atomic_write(path) as temporary:
        assert temporary.suffix == ".json"
        temporary.write_text("text")
    assert [path] == list(tmp_path.iterdir())


def test_name_that_is_too_long_gets_its_own_advice(tmp_path: Path) -> None:
    with pytest.raises(LenetEdgeError, match="File name too long; give a shorter name"):
        with atomic_write(tmp_path / ("n" * 256)):
            raise AssertionError("not reached")


def test_abandoned_file_that_is_a_link_or_a_fifo_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    link, fifo = tmp_path / ".tmp-00000000-file", tmp_path / ".tmp-11111111-file"
    link.symlink_to("precious")
    os.mkfifo(fifo)
    with atomic_write(tmp_path / "file") as temporary:
        temporary.write_text("text")
    assert link.is_symlink()
    assert fifo.is_fifo()


@pytest.mark.parametrize("kind", ["link", "hard link", "fifo", "file"])
def test_log_never_goes_into_another_file(tmp_path: Path, kind: str) -> None:
    precious, log = tmp_path / "precious", tmp_path / "board.log"
    precious.write_text("precious")
    if kind == "link":
        log.symlink_to(precious)
    elif kind == "hard link":
        os.link(precious, log)
    elif kind == "fifo":
        os.mkfifo(log)
    else:
        log.write_text("an earlier log")
    with create_log(log) as file:
        file.write(b"log")
    assert precious.read_text() == "precious"
    assert log.read_text() == "log"
    assert stat.S_IMODE(log.lstat().st_mode) == 0o600


def test_cache_folders_are_private_with_any_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = os.umask(0)
    try:
        folder = private_cache_folder("wheels")
        assert folder == tmp_path / "cache" / "lenet-edge" / "wheels"
        for created in (folder, folder.parent, folder.parent.parent):
            assert stat.S_IMODE(created.stat().st_mode) == 0o700
        folder.parent.chmod(0o777)  # as earlier versions created it; its content is checked
        assert private_cache_folder("wheels") == folder
        assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o755
        folder.chmod(0o777)
        with pytest.raises(LenetEdgeError, match=f"other users can write to the cache {folder}"):
            private_cache_folder("wheels")
    finally:
        os.umask(before)


# Functions that write files without `atomic_write`, and the reason.
OTHER_WRITERS = {
    "artifacts/keras_file.py": "copies into a temporary folder of its caller",
    "bench/instructions/bare_metal.py": "builds in a temporary folder of its caller",
    "bench/instructions/emulated.py": "counts in a temporary folder of its caller",
    "bench/instructions/layers.py": "counts in a temporary folder of its caller",
    "bench/instructions/program.py": "builds in a temporary folder of its caller",
    "deploy/on_board.py": "runs alone on a board, in a folder of its own",
    "deploy/wheels.py": "renames a folder in the private cache",
    "export/artifact_writer.py": "writes in a temporary folder of its caller",
    "export/ncnn/int8.py": "moves the axes of an array",
    "microcontrollers/emulator.py": "runs in a temporary folder of its own",
    "microcontrollers/program.py": "builds in a temporary folder of its caller",
    "report/charts/svg.py": "draws into memory",
    "runtimes/cortex_m.py": "builds in a temporary folder of its session",
    "serve/decoder.py": "writes a setting of its own process in /proc",
    "support/files.py": "contains atomic_write and atomic_folder",
    "support/lock.py": "contains the locks",
    "support/streams.py": "opens /dev/null",
}
SAFE_BLOCKS = {"atomic_write", "atomic_folder", "temporary_folder"}


def writes_in(tree: ast.AST, safe: bool = False) -> Iterator[str]:
    """Yield each call that writes a file outside of a block of `SAFE_BLOCKS`."""
    if isinstance(tree, ast.With):
        names = {ast.unparse(item.context_expr).split("(")[0] for item in tree.items}
        safe = safe or bool({name.split(".")[-1] for name in names} & SAFE_BLOCKS)
    if isinstance(tree, ast.Call) and not safe and is_write(tree):
        yield ast.unparse(tree)
    for child in ast.iter_child_nodes(tree):
        yield from writes_in(child, safe)


def is_write(call: ast.Call) -> bool:
    function, texts = ast.unparse(call.func), [ast.unparse(argument) for argument in call.args]
    name = function.split(".")[-1]
    if name in ("write_text", "write_bytes", "savefig", "touch", "copyfile", "move"):
        return "." in function and not function.startswith("csv_and_pytest")
    if name in ("rename", "replace") and len(texts) == 1 and not call.keywords:
        return True
    if function == "os.open":
        return any(flag in ast.unparse(call) for flag in ("O_WRONLY", "O_RDWR", "O_CREAT"))
    modes = [text.strip("'") for text in texts[-1:]] if name == "open" else []
    return any(set(mode) & set("wax+") and set(mode) <= set("wax+rbt") for mode in modes)


@pytest.mark.costly
def test_every_output_is_written_by_the_function_that_checks_it() -> None:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        calls = list(writes_in(ast.parse(path.read_text())))
        if calls and name not in OTHER_WRITERS:
            found[name] = calls
    assert found == {}


def test_a_user_without_a_home_folder_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(LenetEdgeError, match="set HOME or XDG_CACHE_HOME"):
        private_cache_folder("wheels")
