"""Tests of the locks between processes: exclusion, waiting messages, dead holders."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lenet_edge.errors import LenetEdgeError
from lenet_edge.support import lock

HOLDER = """
import sys, time
from pathlib import Path
from lenet_edge.support import lock
with lock.hold(Path(sys.argv[1]), "lenet-edge export"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that holds the lock until its standard input is closed."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None and process.stdin:
            process.stdin.close()


def test_waiting_command_is_given_the_holder(tmp_path: Path) -> None:
    path = lock.folder_lock_path(tmp_path)
    descriptions: list[str] = []
    with holder(path) as other:

        def wait(description: str) -> None:
            descriptions.append(description)
            assert other.stdin
            other.stdin.close()

        with lock.hold(path, "lenet-edge train", wait):
            assert other.wait(10) == 0
    (line,) = descriptions
    since = r"has held the lock since \d\d:\d\d"
    assert re.fullmatch(rf"lenet-edge export \(process {other.pid}\) {since}", line)
    assert list(tmp_path.iterdir()) == []


def test_killed_process_releases_lock(tmp_path: Path) -> None:
    path = lock.folder_lock_path(tmp_path)
    with holder(path) as other:
        other.kill()
        other.wait()
        assert json.loads(path.read_text())["pid"] == other.pid  # it could not delete the file
        with lock.hold(path, "lenet-edge train", pytest.fail):
            assert json.loads(path.read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_stopped_process_keeps_lock(tmp_path: Path) -> None:
    path = lock.folder_lock_path(tmp_path)
    with holder(path) as other:
        other.send_signal(signal.SIGSTOP)
        with pytest.raises(TimeoutError), lock.hold(path, "me", _give_up):
            raise AssertionError("both held it")
        other.send_signal(signal.SIGCONT)


def _give_up(holder: str) -> None:
    raise TimeoutError(holder)


COUNTER = """
import sys
from pathlib import Path
from lenet_edge.support import lock
path = Path(sys.argv[1])
for _ in range(25):
    with lock.hold(path / "lock", "count"):
        now = int((path / "count").read_text())
        (path / "inside").touch(exist_ok=False)
        (path / "count").write_text(str(now + 1))
        (path / "inside").unlink()
"""


def test_never_two_holders_at_once(tmp_path: Path) -> None:
    """Each holder deletes the lock file; a waiter must not lock the deleted file and go on."""
    lock_poll = "lock._POLL_S = 0.001\n"
    code = COUNTER.replace("path = ", lock_poll + "path = ", 1)
    (tmp_path / "count").write_text("0")
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(6)]
    assert [process.wait(60) for process in processes] == [0] * 6
    assert (tmp_path / "count").read_text() == "150"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["count"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[]", b'{"since": 1e999, "command": "x"}', b"[" * 9999]
)
def test_damaged_lock_file_is_tolerated(tmp_path: Path, content: bytes) -> None:
    path = lock.folder_lock_path(tmp_path)
    with holder(path):
        path.write_bytes(content)
        with pytest.raises(TimeoutError, match="another process holds the lock"):
            with lock.hold(path, "me", _give_up):
                raise AssertionError("both held it")


def test_control_characters_in_lock_file_are_removed(tmp_path: Path) -> None:
    path = lock.folder_lock_path(tmp_path)
    with holder(path):
        facts = {"command": "\x1b[31mred\n", "pid": 1, "host": "\x07", "since": 0}
        path.write_text(json.dumps(facts))
        with pytest.raises(TimeoutError) as caught, lock.hold(path, "me", _give_up):
            raise AssertionError("both held it")
    assert str(caught.value).isprintable()


def test_threads_wait_for_each_other(tmp_path: Path) -> None:
    path, order = tmp_path / "lock", []

    def other() -> None:
        with lock.hold(path, "thread"):
            order.append("thread")

    with lock.hold(path, "main"):
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.3)
        order.append("main")
    thread.join()
    assert order == ["main", "thread"]


def test_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LenetEdgeError, match=rf"cannot write into {tmp_path}/file: .*; check"):
        with lock.hold(lock.folder_lock_path(tmp_path / "file"), "me"):
            raise AssertionError("not reached")


def test_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    """The lock of the machine may be in /tmp, where other users can create links."""
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(LenetEdgeError, match="cannot write into"):
        with lock.hold(tmp_path / "lock", "me"):
            raise AssertionError("not reached")
    assert (tmp_path / "precious").read_text() == "precious"


def test_second_name_of_a_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    os.link(tmp_path / "precious", tmp_path / "lock")
    with pytest.raises(LenetEdgeError, match="lock is not a regular file with one name; delete it"):
        with lock.hold(tmp_path / "lock", "me"):
            raise AssertionError("not reached")
    assert (tmp_path / "precious").read_text() == "precious"


def test_fifo_as_lock_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock")
    with pytest.raises(LenetEdgeError, match="is not a regular file"):
        with lock.hold(tmp_path / "lock", "me"):
            raise AssertionError("not reached")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has files of other users")
def test_lock_file_of_another_user_in_a_shared_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    (tmp_path / "lock").touch()
    os.chown(tmp_path / "lock", 12345, 12345)
    with pytest.raises(LenetEdgeError, match="belongs to another user; delete it"):
        with lock.hold(tmp_path / "lock", "me"):
            raise AssertionError("not reached")


def test_only_the_start_of_a_huge_lock_file_is_read(tmp_path: Path) -> None:
    path = lock.folder_lock_path(tmp_path)
    with holder(path):
        os.truncate(path, 100 * 10**9)
        with pytest.raises(TimeoutError, match="holds the lock"):
            with lock.hold(path, "me", _give_up):
                raise AssertionError("both held it")
