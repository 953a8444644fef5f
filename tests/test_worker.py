"""The worker against everything that a runtime has been seen to do, in real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import lenet_edge
from lenet_edge import worker
from lenet_edge.errors import LenetEdgeError, MissingPackageError, ModelFileError, WorkerError

PACKAGE = Path(lenet_edge.__file__).parent


@pytest.fixture(autouse=True)
def _package_with_misbehaving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers import the package with one file more: ``lenet_edge.misbehaving``."""
    copy = tmp_path / "lenet_edge"
    copy.mkdir()
    for path in PACKAGE.iterdir():
        (copy / path.name).symlink_to(path)
    (copy / "misbehaving.py").symlink_to(Path(__file__).with_name("misbehaving.py"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # for a caller in a process of its own
    monkeypatch.setattr(worker, "_PACKAGE", copy)


@pytest.mark.parametrize(
    "value", [None, 0, "", "é\n\0", [1, 2.5, None], {"error": "no error", "kind": "x"}, "result"]
)
def test_the_answer_comes_back(value: Any) -> None:
    assert worker.call("misbehaving:echo", value=value) == value


def test_it_runs_in_another_process() -> None:
    assert worker.call("misbehaving:echo", value=1) == 1
    assert "lenet_edge.misbehaving" not in sys.modules


def test_an_answer_longer_than_a_pipe_holds() -> None:
    assert len(worker.call("misbehaving:long_answer", 30, length=5_000_000)) == 5_000_000


def test_a_question_longer_than_a_pipe_holds() -> None:
    value = "x" * 1_000_000
    assert worker.call("misbehaving:echo", 30, value=value) == value


def test_what_libraries_print_is_no_answer(capfd: pytest.CaptureFixture[str]) -> None:
    assert worker.call("misbehaving:chatter", 30) == "right"
    assert capfd.readouterr() == ("", "")  # and does not reach our own --json -


def test_a_crash_after_the_answer_does_not_matter() -> None:
    assert worker.call("misbehaving:crash_after_answering") == "right"


def test_an_error_of_ours_comes_back_as_it_was() -> None:
    with pytest.raises(ModelFileError) as caught:
        worker.call("misbehaving:refuse")
    assert type(caught.value) is ModelFileError
    assert str(caught.value) == "that is no model; take another"
    with pytest.raises(MissingPackageError) as missing:
        worker.call("misbehaving:miss_a_package")
    assert str(missing.value) == str(MissingPackageError("openvino", "openvino"))


def test_any_other_error_says_what_it_was_and_keeps_its_traceback() -> None:
    with pytest.raises(WorkerError) as caught:
        worker.call("misbehaving:stumble")
    assert str(caught.value) == (
        "misbehaving:stumble failed: ZeroDivisionError: an unforeseen division"
    )
    assert 'raise ZeroDivisionError("an unforeseen division")' in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            "abort",
            "misbehaving:abort was killed by SIGABRT"
            " (it printed: F0000 check failed: model != nullptr)",
        ),
        ("segfault", "misbehaving:segfault was killed by SIGSEGV"),
        ("vanish", "misbehaving:vanish ended with exit status 7 and no answer"),
        (
            "leave",
            "misbehaving:leave ended with exit status 1 and no answer (it printed: I am a script)",
        ),
    ],
)
def test_a_crash_is_told_by_how_it_ended(function: str, message: str) -> None:
    with pytest.raises(WorkerError) as caught:
        worker.call(f"misbehaving:{function}")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("misbehaving:nothing", "has no attribute 'nothing'"),
        ("nowhere:echo", "No module named 'lenet_edge.nowhere'"),
        ("misbehaving:answer_what_json_cannot_hold", "object is not JSON serializable"),
    ],
)
def test_our_own_mistakes_are_told_too(function: str, message: str) -> None:
    with pytest.raises(WorkerError, match=message):
        worker.call(function)


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(path: Path) -> str:
    for _ in range(300):
        if path.exists():
            return path.read_text()
        time.sleep(0.1)
    raise AssertionError(f"{path} never came")


def wait_until_gone(pid: int) -> None:
    """The kernel takes a moment to end a process that was killed."""
    for _ in range(100):
        if not is_running(pid):
            return
        time.sleep(0.1)
    raise AssertionError(f"{pid} runs on")


def test_a_worker_that_hangs_is_killed_and_leaves_no_orphan(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with pytest.raises(WorkerError, match=r"hang did not finish within 3 s and was stopped"):
        worker.call("misbehaving:hang", 3, pid_file=str(pid_file))
    assert not is_running(int(wait_for(pid_file)))


def test_ctrl_c_takes_the_worker_with_it(tmp_path: Path) -> None:
    """SIGINT to the caller alone, and a worker that is deaf to it."""
    pid_file = tmp_path / "pid"
    code = (
        "from lenet_edge import worker;"
        f" worker.call('misbehaving:hang', 60, pid_file={str(pid_file)!r})"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as caller:
        pid = int(wait_for(pid_file))
        assert is_running(pid)
        caller.send_signal(signal.SIGINT)
        _, errors = caller.communicate(timeout=30)
    assert b"KeyboardInterrupt" in errors
    assert not is_running(pid)


def test_calls_leave_no_descriptors_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for function in ("chatter", "refuse", "abort"):
        try:
            worker.call(f"misbehaving:{function}")
        except LenetEdgeError:
            continue
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_worker_that_prints_without_end_is_stopped_and_not_kept() -> None:
    with pytest.raises(WorkerError, match=r"babble did not finish within 3 s"):
        worker.call("misbehaving:babble", 3)


def test_a_worker_that_allocates_without_end_is_stopped_by_its_limit() -> None:
    with pytest.raises(WorkerError) as caught:
        worker.call("misbehaving:swell", 60, memory_bytes=2**30)
    assert str(caught.value) == (
        "misbehaving:swell asked for more than the 1.0 GiB of memory there is"
    )


def test_native_code_that_allocates_without_end_is_stopped_too() -> None:
    with pytest.raises(WorkerError, match=r"was killed by SIGABRT|SIGSEGV"):
        worker.call("misbehaving:swell_natively", 60, memory_bytes=2**30)


def test_what_a_worker_has_started_ends_with_it(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    assert worker.call("misbehaving:leave_a_child", 30, pid_file=str(pid_file)) == "right"
    wait_until_gone(int(wait_for(pid_file)))


def test_a_caller_that_is_killed_takes_the_worker_with_it(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "from lenet_edge import worker;"
        f" worker.call('misbehaving:hang', 60, pid_file={str(pid_file)!r})"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as caller:
        pid = int(wait_for(pid_file))
        caller.kill()
    wait_until_gone(pid)


def test_a_conversation_keeps_what_it_opened() -> None:
    with closing(worker.Worker()) as one:
        assert [one.call("misbehaving:count") for _ in range(3)] == [1, 2, 3]
        with pytest.raises(ModelFileError):
            one.call("misbehaving:refuse")
        assert one.call("misbehaving:chatter") == "right"
        assert one.call("misbehaving:count") == 4
        pid = one.pid
    assert not is_running(pid)


def test_a_conversation_ends_with_a_crash() -> None:
    with closing(worker.Worker()) as one:
        assert one.call("misbehaving:count") == 1
        for said in ("segfault was killed by SIGSEGV", "segfault was killed by SIGSEGV"):
            with pytest.raises(WorkerError, match=said):
                one.call("misbehaving:segfault")


def test_a_worker_that_is_stopped_does_not_hold_its_caller() -> None:
    """Not while it is asked more than a pipe holds, nor while the answer is awaited."""
    with closing(worker.Worker()) as one:
        assert one.call("misbehaving:count") == 1
        os.kill(one.pid, signal.SIGSTOP)
        for value in ("x" * 1_000_000, "x"):
            with pytest.raises(WorkerError, match=r"did not finish within 0\.5 s"):
                one.call("misbehaving:echo", 0.5, value=value)


def test_another_python_runs_this_package(tmp_path: Path) -> None:
    """One that has no packages at all."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    assert worker.call("misbehaving:who", 30, python) == str(tmp_path / "venv")
    with pytest.raises(WorkerError, match="No module named 'numpy'"):
        worker.call("bench.timing:measure", 30, python)


def test_a_python_that_is_none() -> None:
    with pytest.raises(WorkerError, match=r"cannot start nowhere/python: .* check --python"):
        worker.call("misbehaving:echo", 30, Path("nowhere/python"), value=1)
