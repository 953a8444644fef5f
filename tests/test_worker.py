"""Worker processes against the failures of real runtimes, and the rules of marked functions."""

from __future__ import annotations

import ast
import importlib.util
import math
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import lenet_edge
from lenet_edge import worker
from lenet_edge.bench import timing
from lenet_edge.errors import LenetEdgeError, MissingPackageError, ModelFileError, WorkerError
from lenet_edge.support import tagged_json
from lenet_edge.worker import Call, Job, WorkerFunction

PACKAGE = Path(lenet_edge.__file__).parent

if TYPE_CHECKING:
    from tests import misbehaving
else:  # under the name that workers import it by, but not in this process's sys.modules
    _spec = importlib.util.spec_from_file_location(
        "lenet_edge.misbehaving", Path(__file__).with_name("misbehaving.py")
    )
    misbehaving = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(misbehaving)


@pytest.fixture(autouse=True)
def _package_with_misbehaving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the module ``lenet_edge.misbehaving`` to the package that workers import."""
    copy = tmp_path / "lenet_edge"
    copy.mkdir()
    for path in PACKAGE.iterdir():
        (copy / path.name).symlink_to(path)
    (copy / "misbehaving.py").symlink_to(Path(__file__).with_name("misbehaving.py"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # for a caller in a process of its own
    monkeypatch.setattr(worker, "PACKAGE", copy)


def with_name(name: str) -> Call[Any]:
    """Return a call of a function with a name that `bind` would never give it."""
    wrong = WorkerFunction(misbehaving.refuse.__wrapped__)
    wrong.name = name
    return wrong.bind()


def test_the_result_comes_back_with_its_types() -> None:
    values = (
        None, 0, "", "é\n\0", [1, 2.5, None], {"error": "no error", "kind": "x"}, "result",
        (1, (2, [3])), b"\0\xff", Path("a/b"), {1: "x"}, {"$tuple": [1]}, math.inf,
        "\udcff", {("a", 1): {Path("c"): b""}}, True,
    )  # fmt: skip
    with closing(worker.Worker()) as process:
        for value in values:
            result = process.run(misbehaving.echo.bind(value))
            assert result == value
            assert repr(result) == repr(value)  # 1 == True, but the types differ


@pytest.mark.parametrize("value", [object(), {1, 2}, [b"", (bytearray(),)], {"a": range(3)}])
def test_a_message_refuses_other_types(value: Any) -> None:
    with pytest.raises(TypeError, match=r"a worker message cannot carry builtins\.\w+; use"):
        worker.run(misbehaving.echo.bind(value))


def test_a_message_is_one_line() -> None:
    assert "\n" not in tagged_json.dumps(["\n", Path("\n"), {"\n": "\r\u2028"}])


def test_a_lasting_worker_is_replaced_after_a_call_that_fails() -> None:
    with closing(worker.LastingWorker()) as process:
        assert [process.run(misbehaving.count.bind()) for _ in range(2)] == [1, 2]
        for failing in (misbehaving.refuse.bind(), with_name("misbehaving:nothing")):
            with pytest.raises(LenetEdgeError):
                process.run(failing)
            assert process.run(misbehaving.count.bind()) == 1


def test_it_runs_in_another_process() -> None:
    assert worker.run(misbehaving.echo.bind(1)) == 1
    assert "lenet_edge.misbehaving" not in sys.modules


def test_a_reply_longer_than_a_pipe_buffers() -> None:
    call = misbehaving.long_text.bind(length=5_000_000).within(30)
    assert len(worker.run(call)) == 5_000_000


def test_a_request_longer_than_a_pipe_buffers() -> None:
    value = "x" * 1_000_000
    assert worker.run(misbehaving.echo.bind(value).within(30)) == value


def test_output_of_libraries_is_no_reply(capfd: pytest.CaptureFixture[str]) -> None:
    assert worker.run(misbehaving.chatter.bind().within(30)) == "right"
    assert capfd.readouterr() == ("", "")  # and does not reach our own --json -


def test_a_crash_after_the_reply_does_not_matter() -> None:
    assert worker.run(misbehaving.crash_after_the_reply.bind()) == "right"


def test_an_error_of_this_package_keeps_its_class_and_message() -> None:
    with pytest.raises(ModelFileError) as caught:
        worker.run(misbehaving.refuse.bind())
    assert type(caught.value) is ModelFileError
    assert str(caught.value) == "that is no model; take another"
    with pytest.raises(MissingPackageError) as missing:
        worker.run(misbehaving.miss_a_package.bind())
    assert str(missing.value) == str(MissingPackageError("openvino", "openvino"))


def test_any_other_error_is_named_and_keeps_its_traceback() -> None:
    with pytest.raises(WorkerError) as caught:
        worker.run(misbehaving.stumble.bind())
    assert str(caught.value) == (
        "misbehaving:stumble failed: ZeroDivisionError: an unforeseen division"
    )
    assert 'raise ZeroDivisionError("an unforeseen division")' in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            misbehaving.abort,
            "misbehaving:abort was killed by SIGABRT"
            " (it printed: F0000 check failed: model != nullptr)",
        ),
        (misbehaving.segfault, "misbehaving:segfault was killed by SIGSEGV"),
        (misbehaving.vanish, "misbehaving:vanish ended with exit status 7 and no reply"),
        (
            misbehaving.leave,
            "misbehaving:leave ended with exit status 1 and no reply (it printed: I am a script)",
        ),
    ],
)
def test_a_crash_is_reported_with_its_status(
    function: WorkerFunction[[], None], message: str
) -> None:
    with pytest.raises(WorkerError) as caught:
        worker.run(function.bind())
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (with_name("misbehaving:nothing"), "has no attribute 'nothing'"),
        (with_name("nowhere:echo"), r"No module named 'lenet_edge\.nowhere'"),
        (with_name("misbehaving:unmarked"), "may not run in a worker; mark it with @worker"),
        (with_name("misbehaving:Path"), "may not run in a worker; mark it with @worker"),
        (misbehaving.return_an_object.bind(), r"cannot carry builtins\.object"),
    ],
)
def test_a_worker_refuses_wrong_names_and_results(call: Call[Any], message: str) -> None:
    with pytest.raises(WorkerError, match=message):
        worker.run(call)


def test_an_unmarked_function_has_no_call() -> None:
    assert not hasattr(misbehaving.unmarked, "bind")
    assert misbehaving.echo(3) == 3  # a marked function is still a function


def test_arguments_are_checked_before_the_call() -> None:
    with pytest.raises(TypeError, match="missing a required argument: 'length'"):
        misbehaving.long_text.bind()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'size'"):
        misbehaving.long_text.bind(length=1, size=3)  # type: ignore[call-arg]


def test_a_function_that_no_worker_could_import_cannot_be_marked() -> None:
    def local() -> None: ...

    def with_any(*values: int) -> None: ...

    with_any.__module__, with_any.__qualname__ = "lenet_edge.misbehaving", "with_any"
    for function, message in (
        (local, "cannot be imported by a worker"),
        (with_any, "name its parameters"),
    ):
        with pytest.raises(TypeError, match=message):
            worker.function(function)


def test_calls_are_pickled_by_name() -> None:
    call = timing.measure.bind({}, {}, 1, 1, {}).within(3)
    assert pickle.loads(pickle.dumps(call)) == call
    with pytest.raises(WorkerError, match="may not run in a worker"):
        pickle.loads(pickle.dumps(call).replace(b"bench.timing:measure", b"bench.timing:Session"))


def test_a_job_runs_here_and_in_new_processes() -> None:
    results: list[Any] = []

    def job() -> Job:
        results.append((yield from misbehaving.count.bind()))
        for _ in range(2):
            results.append((yield from misbehaving.count.bind().in_new_process()))
        try:
            yield from misbehaving.refuse.bind()
        except ModelFileError as error:
            results.append(str(error))
        results.append((yield from misbehaving.count.bind()))

    worker.run_locally(job())
    first = results[0]
    assert results == [first, 1, 1, "that is no model; take another", first + 1]


def marked_functions() -> Iterator[str]:
    """Yield the name of every function of the package that is marked in the source text."""
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if not re.search(r"^\s*@\s*(worker\s*\.\s*)?function\b", text, re.MULTILINE):
            continue  # the syntax tree costs a hundred times as much
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and any(
                ast.unparse(decorator) in ("worker.function", "function")
                for decorator in node.decorator_list
            ):
                yield f"{module}:{node.name}"


@pytest.mark.parametrize("name", sorted(marked_functions()))
def test_every_marked_function_resolves(name: str) -> None:
    function = worker.resolve(name)
    assert function.name == name
    assert pickle.loads(pickle.dumps(function)) is function


@pytest.mark.costly
def test_there_are_marked_functions_and_no_names_in_strings() -> None:
    names = set(marked_functions())
    assert {"bench.timing:measure", "verify.verify:verify_pair", "prediction:load_pixels"} <= names
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        quoted = set(re.findall(r"[\"\']([a-z_.]+:[a-z_]+)[\"\']", text))
        assert not quoted & names, f"{path}: refer to the function instead of its name"


def test_worker_imports_no_numpy() -> None:
    code = "import sys, lenet_edge.worker, lenet_edge.bench.peak; print('numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent, check=True
    )
    assert done.stdout == "False\n"


HANG = """
from pathlib import Path
from lenet_edge import misbehaving, worker
worker.run(misbehaving.hang.bind(Path({pid_file!r})).within(60))
"""


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


@pytest.mark.costly
def test_a_worker_that_hangs_is_killed_and_leaves_no_orphan(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with pytest.raises(WorkerError, match=r"hang did not finish within 3 s and was stopped"):
        worker.run(misbehaving.hang.bind(pid_file).within(3))
    assert not is_running(int(wait_for(pid_file)))


def test_ctrl_c_ends_the_worker(tmp_path: Path) -> None:
    """Send SIGINT to the caller alone; the worker ignores SIGINT."""
    pid_file = tmp_path / "pid"
    code = HANG.format(pid_file=str(pid_file))
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as caller:
        pid = int(wait_for(pid_file))
        assert is_running(pid)
        caller.send_signal(signal.SIGINT)
        _, errors = caller.communicate(timeout=30)
    assert b"KeyboardInterrupt" in errors
    assert not is_running(pid)


def test_calls_leave_no_descriptors_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    functions: list[WorkerFunction[[], Any]] = [
        misbehaving.chatter, misbehaving.refuse, misbehaving.abort,
    ]  # fmt: skip
    for function in functions:
        try:
            worker.run(function.bind())
        except LenetEdgeError:
            continue
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.costly
def test_a_worker_that_prints_without_limit_is_stopped_and_its_output_dropped() -> None:
    with closing(worker.Worker()) as opened:
        assert opened.run(misbehaving.count.bind()) == 1
        with pytest.raises(WorkerError, match=r"babble did not finish within 0\.5 s"):
            opened.run(misbehaving.babble.bind().within(0.5))


def test_a_worker_that_allocates_without_limit_is_stopped() -> None:
    with pytest.raises(WorkerError) as caught:
        worker.run(misbehaving.swell.bind().within(60), memory_bytes=2**30)
    assert str(caught.value) == "misbehaving:swell needs more than the 1 GiB of memory available"


def test_native_code_that_allocates_without_limit_is_stopped_too() -> None:
    with pytest.raises(WorkerError, match=r"was killed by SIGABRT|SIGSEGV"):
        worker.run(misbehaving.swell_natively.bind().within(60), memory_bytes=2**30)


def test_a_worker_of_a_process_without_standard_streams(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path\n"
        "from lenet_edge import misbehaving, worker\n"
        "result = worker.run(misbehaving.echo.bind('right').within(20))\n"
        "Path('result').write_text(result)\n"
    )
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", program]
    assert subprocess.run(command, cwd=tmp_path, timeout=60).returncode == 0
    assert (tmp_path / "result").read_text() == "right"


def test_child_processes_of_a_worker_end_with_it(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    assert worker.run(misbehaving.leave_a_child.bind(pid_file).within(30)) == "right"
    wait_until_gone(int(wait_for(pid_file)))


def test_a_worker_ends_when_its_caller_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = HANG.format(pid_file=str(pid_file))
    with subprocess.Popen([sys.executable, "-c", code]) as caller:
        pid = int(wait_for(pid_file))
        caller.kill()
    wait_until_gone(pid)


def test_an_open_worker_keeps_its_state() -> None:
    count = misbehaving.count.bind()
    with closing(worker.Worker()) as opened:
        assert [opened.run(count) for _ in range(3)] == [1, 2, 3]
        with pytest.raises(ModelFileError):
            opened.run(misbehaving.refuse.bind())
        assert opened.run(misbehaving.chatter.bind()) == "right"
        assert opened.run(count) == 4
        pid = opened.pid
    assert not is_running(pid)


def test_an_open_worker_ends_with_a_crash() -> None:
    with closing(worker.Worker()) as opened:
        assert opened.run(misbehaving.count.bind()) == 1
        for _ in range(2):
            with pytest.raises(WorkerError, match="segfault was killed by SIGSEGV"):
                opened.run(misbehaving.segfault.bind())


def test_a_stopped_worker_does_not_block_its_caller() -> None:
    """Neither when a request exceeds the pipe's buffer, nor while the reply is awaited."""
    with closing(worker.Worker()) as opened:
        assert opened.run(misbehaving.count.bind()) == 1
        os.kill(opened.pid, signal.SIGSTOP)
        for value in ("x" * 1_000_000, "x"):
            with pytest.raises(WorkerError, match=r"did not finish within 0\.5 s"):
                opened.run(misbehaving.echo.bind(value).within(0.5))


def test_another_python_runs_this_package(tmp_path: Path) -> None:
    """Use an interpreter that has no packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    prefix = worker.run(misbehaving.environment.bind().within(30), python)
    assert prefix == str(tmp_path / "venv")
    with pytest.raises(WorkerError, match="No module named 'numpy'"):
        worker.run(timing.measure.bind({}, {}, 1, 1, {}).within(30), python)


def test_a_missing_python() -> None:
    with pytest.raises(WorkerError, match=r"cannot start nowhere/python: .* check --python"):
        worker.run(misbehaving.echo.bind(1), Path("nowhere/python"))
