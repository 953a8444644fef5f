"""One at a time: who waits is told for whom; a dead process holds nothing."""

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
    """Another process that holds the lock, until its standard input ends."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as one:
        assert one.stdout
        assert one.stdout.readline() == "held\n"
        yield one
        if one.poll() is None and one.stdin:
            one.stdin.close()


def test_who_waits_is_told_for_whom(tmp_path: Path) -> None:
    path = lock.of_folder(tmp_path)
    said: list[str] = []
    with holder(path) as other:

        def wait(who: str) -> None:
            said.append(who)
            assert other.stdin
            other.stdin.close()

        with lock.hold(path, "lenet-edge train", wait):
            assert other.wait(10) == 0
    (line,) = said
    when = r"has the lock since \d\d:\d\d"
    assert re.fullmatch(rf"lenet-edge export \(process {other.pid}\) {when}", line)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    path = lock.of_folder(tmp_path)
    with holder(path) as other:
        other.kill()
        other.wait()
        assert json.loads(path.read_text())["pid"] == other.pid  # it could not take that along
        with lock.hold(path, "lenet-edge train", pytest.fail):
            assert json.loads(path.read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_process_still_holds_it(tmp_path: Path) -> None:
    path = lock.of_folder(tmp_path)
    with holder(path) as other:
        other.send_signal(signal.SIGSTOP)
        with pytest.raises(TimeoutError), lock.hold(path, "me", _give_up):
            raise AssertionError("both held it")
        other.send_signal(signal.SIGCONT)


def _give_up(who: str) -> None:
    raise TimeoutError(who)


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


def test_never_two_at_once(tmp_path: Path) -> None:
    """Each takes the lock's file along as it goes, which is where another could slip in."""
    lock_poll = "lock._POLL_S = 0.001\n"
    code = COUNTER.replace("path = ", lock_poll + "path = ", 1)
    (tmp_path / "count").write_text("0")
    crowd = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(6)]
    assert [one.wait(60) for one in crowd] == [0] * 6
    assert (tmp_path / "count").read_text() == "150"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["count"]


@pytest.mark.parametrize(
    "words", [b"", b"{", b"\xff\xfe", b"[]", b'{"since": 1e999, "command": "x"}', b"[" * 9999]
)
def test_whatever_is_in_the_file(tmp_path: Path, words: bytes) -> None:
    path = lock.of_folder(tmp_path)
    with holder(path):
        path.write_bytes(words)
        with pytest.raises(TimeoutError, match="another process has the lock"):
            with lock.hold(path, "me", _give_up):
                raise AssertionError("both held it")


def test_what_is_in_the_file_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    path = lock.of_folder(tmp_path)
    with holder(path):
        about = {"command": "\x1b[31mred\n", "pid": 1, "host": "\x07", "since": 0}
        path.write_text(json.dumps(about))
        with pytest.raises(TimeoutError) as caught, lock.hold(path, "me", _give_up):
            raise AssertionError("both held it")
    assert str(caught.value).isprintable()


def test_threads_wait_too(tmp_path: Path) -> None:
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


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LenetEdgeError, match=rf"cannot write into {tmp_path}/file: .*; check"):
        with lock.hold(lock.of_folder(tmp_path / "file"), "me"):
            raise AssertionError("not reached")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """The machine's lock may lie in /tmp, where others can make links."""
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(LenetEdgeError, match="cannot write into"):
        with lock.hold(tmp_path / "lock", "me"):
            raise AssertionError("not reached")
    assert (tmp_path / "precious").read_text() == "precious"
