"""Typed calls of this package's functions in fresh processes.

A runtime may print, crash, hang, allocate without limit, or carry state from one model to the
next. In a process of its own it cannot harm its caller. Three steps make a call:

    @worker.function                                    1. mark a function, where it is defined
    def version_of(package: str) -> str: ...

    call = version_of.bind(package="numpy")             2. bind it to arguments, which mypy checks
    version = worker.run(call.within(120))              3. run the call in a new process

`Worker` is a process that runs many calls. A `Job` is a generator of calls that leaves to its
driver where they run: `run_locally` runs them in this process, `fleet.driver` on boards.

Requests and replies are lines of `support.tagged_json`. A reply has a pipe of its own, so that the
output of a library cannot be mistaken for a reply. Dask pickles calls and replies instead.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import importlib
import inspect
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Generic, ParamSpec, TypeVar

from lenet_edge import errors
from lenet_edge.errors import LenetEdgeError, WorkerError, WorkerTimeoutError
from lenet_edge.support import tagged_json
from lenet_edge.support.memory_limit import memory_limit
from lenet_edge.support.portable import limit_resource
from lenet_edge.support.python_command import python_program
from lenet_edge.support.streams import fill_descriptors

P = ParamSpec("P")
R = TypeVar("R")

PACKAGE = Path(__file__).parent  # the folder that workers import as lenet_edge
_ROOT = "lenet_edge"
_KEPT_OUTPUT = 10_000  # bytes of a worker's last output, for the message when the worker dies
# Import lenet_edge by file path. Extending `sys.path` would expose this interpreter's other
# packages to a worker of another environment, which has its own runtimes.
_START = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location(
    "lenet_edge", sys.argv[1] + "/__init__.py", submodule_search_locations=[sys.argv[1]])
module = sys.modules["lenet_edge"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from lenet_edge.worker import serve
serve(int(sys.argv[2]), int(sys.argv[3]))
"""


class WorkerFunction(Generic[P, R]):
    """A function of this package that a worker may run; made by the decorator `function`.

    `name` is "<module>:<function>", without the package's name. It identifies the function in
    requests and in error messages.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        package, _, module = function.__module__.partition(".")
        if package != _ROOT or not module or "." in function.__qualname__:
            raise TypeError(
                f"{function.__module__}.{function.__qualname__} cannot be imported by a worker;"
                f" define it at the top level of a module of {_ROOT}"
            )
        self._signature = inspect.signature(function)
        for parameter in self._signature.parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise TypeError(f"{function.__qualname__} takes {parameter}; name its parameters")
        self.__wrapped__ = function
        functools.update_wrapper(self, function)
        self.name = f"{module}:{function.__qualname__}"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function in this process."""
        return self.__wrapped__(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<worker function {self.name}>"

    def __reduce__(self) -> tuple[Callable[[str], WorkerFunction[..., Any]], tuple[str]]:
        return resolve, (self.name,)  # Dask pickles calls: by name, as a request does

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """Return the call of this function with these arguments, without running it.

        Raises:
            TypeError: the function does not take these arguments.
        """
        return Call(self, self._signature.bind(*args, **kwargs).arguments)


def function(function: Callable[P, R]) -> WorkerFunction[P, R]:
    """Mark a function as one that a worker may run.

    The function must be at the top level of its module. Its arguments and its result must be of
    the types that `support.tagged_json` carries. It may still be called directly.
    """
    return WorkerFunction(function)


def resolve(name: str) -> WorkerFunction[..., Any]:
    """Import a marked function by its name, such as ``bench.timing:measure``.

    Raises:
        WorkerError: the function is not marked.
        ImportError, AttributeError: there is no such function.
    """
    module, _, attribute = name.partition(":")
    resolved = getattr(importlib.import_module(f"{_ROOT}.{module}"), attribute)
    if not isinstance(resolved, WorkerFunction):
        raise WorkerError(f"{name} may not run in a worker; mark it with @worker.function")
    return resolved


@dataclass(frozen=True)
class Call(Generic[R]):
    """A marked function and its arguments.

    Attributes:
        function: the function.
        arguments: its arguments by name.
        timeout_s: seconds in which the call must return or fail.
        isolated: whether `execute` starts a new process for the call.
        python: the interpreter of that process; None for this one.
    """

    function: WorkerFunction[..., R]
    arguments: dict[str, Any]
    timeout_s: float = 300.0
    isolated: bool = False
    python: Path | None = None

    def within(self, timeout_s: float) -> Call[R]:
        """Return the same call with another time limit in seconds."""
        return dataclasses.replace(self, timeout_s=timeout_s)

    def in_new_process(self, python: Path | None = None) -> Call[R]:
        """Return the same call, for a new process on the machine that executes it."""
        return dataclasses.replace(self, isolated=True, python=python)

    def execute(self) -> R:
        """Run the call in this process, or in a new one if it is `isolated`."""
        if self.isolated:
            return run(self, self.python)
        return self.function(**self.arguments)

    def __iter__(self) -> Generator[Call[Any], Any, R]:
        """Yield the call to the driver of a job: ``result = yield from call`` is typed."""
        result: R = yield self
        return result


# A generator that yields calls. Its driver sends back the result of each call, or throws the
# LenetEdgeError that the call raised.
Job = Generator[Call[Any], Any, None]


def run_locally(job: Job) -> None:
    """Execute the calls of a job in this process until the job ends."""
    with contextlib.closing(job), contextlib.suppress(StopIteration):
        call = next(job)
        while True:
            try:
                result = call.execute()
            except LenetEdgeError as error:
                call = job.throw(error)
            else:
                call = job.send(result)


def run(call: Call[R], python: Path | None = None, memory_bytes: int | None = None) -> R:
    """Run a call in a new process and return its result.

    Args:
        call: the call; the process is killed at its time limit.
        python: the interpreter of another environment; by default this one.
        memory_bytes: the worker's memory limit; by default the memory that is available.

    Raises:
        LenetEdgeError: the function raised this error; the class is the same.
        WorkerError: the worker crashed, hung, or raised an error of another kind. A
            `WorkerTimeoutError` if it hung.
    """
    with contextlib.closing(Worker(python, memory_bytes)) as worker:
        return worker.run(call)


class Worker:
    """A process that runs one call after another and keeps its state between them.

    After a `WorkerError` the process may have ended: close it and start another.
    """

    def __init__(self, python: Path | None = None, memory_bytes: int | None = None) -> None:
        wanted_bytes = memory_bytes or _available_bytes()
        # A process without privileges cannot raise its own limit.
        self._memory_bytes = min(filter(None, (wanted_bytes, memory_limit())), default=0)
        if sys.platform == "win32":
            raise WorkerError("Windows cannot start workers; run lenet-edge in WSL, its Linux")
        fill_descriptors()  # the pipe must not get a number that the worker's own streams have
        self._replies, reply_end = os.pipe()
        arguments = [str(PACKAGE), str(reply_end), str(self._memory_bytes)]
        command = python_program(_START, *arguments, python=python or sys.executable)
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                pass_fds=(reply_end,), start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            os.close(self._replies)
            raise WorkerError(
                f"cannot start {command[0]}: {error.strerror}; check --python"
            ) from error
        finally:
            os.close(reply_end)  # then the pipe ends when the worker does
        assert self._process.stdin
        assert self._process.stdout
        os.set_blocking(self._process.stdin.fileno(), False)  # a stopped worker must not block us
        self._output = bytearray()
        self._reader = threading.Thread(
            target=_keep_tail, args=(self._process.stdout, self._output), daemon=True
        )
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def run(self, call: Call[R]) -> R:
        """Run a call in the worker and return its result; raises as the function `run` does."""
        name, deadline = call.function.name, time.monotonic() + call.timeout_s
        line = tagged_json.dumps({"function": name, "arguments": call.arguments}).encode() + b"\n"
        try:
            with contextlib.suppress(BrokenPipeError):  # the worker died; its status says how
                self._send(line, deadline)
            reply = self._read_reply(deadline)
            if reply is None:
                status = self._process.wait(max(0.0, deadline - time.monotonic()))
                self._reader.join(1)
                raise WorkerError(f"{name} {_describe_status(status)}{_last_line(self._output)}")
        except (TimeoutError, subprocess.TimeoutExpired):
            raise WorkerTimeoutError(
                f"{name} did not finish within {call.timeout_s:g} s and was stopped"
            ) from None
        result: R = decode_reply(name, tagged_json.loads(reply), self._memory_bytes)
        return result

    def _send(self, line: bytes, deadline: float) -> None:
        assert self._process.stdin
        descriptor, rest = self._process.stdin.fileno(), memoryview(line)
        while rest:
            _wait(descriptor, select.POLLOUT, deadline)
            rest = rest[os.write(descriptor, rest) :]

    def _read_reply(self, deadline: float) -> bytes | None:
        """Return the line of the reply, or None if the worker has ended."""
        pieces = []
        while True:
            _wait(self._replies, select.POLLIN, deadline)
            chunk = os.read(self._replies, 65_536)
            if not chunk:
                return None
            pieces.append(chunk)
            if chunk.endswith(b"\n"):  # JSON text contains no newline
                return b"".join(pieces)

    def close(self) -> None:
        """Kill the process and every process that it has started."""
        _kill_group(self._process)
        self._reader.join()
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        os.close(self._replies)


class LastingWorker:
    """A worker that starts with its first call, and is replaced after a call that fails.

    Calls that import the same package share the import.
    """

    def __init__(self) -> None:
        self._worker: Worker | None = None

    def run(self, call: Call[R]) -> R:
        """Run a call in the worker and return its result; raises as the function `run` does."""
        self._worker = self._worker or Worker()
        try:
            return self._worker.run(call)
        except LenetEdgeError:
            self.close()
            raise

    def close(self) -> None:
        """Kill the process and every process that it has started."""
        if self._worker is not None:
            self._worker.close()
        self._worker = None


def _wait(descriptor: int, event: int, deadline: float) -> None:
    poll = select.poll()  # select() fails on descriptors above 1023
    poll.register(descriptor, event)
    left_s = deadline - time.monotonic()
    if left_s <= 0 or not poll.poll(left_s * 1000):
        raise TimeoutError


def _available_bytes() -> int:
    """Return the memory that the machine has available, or 0 where Linux does not tell it."""
    try:
        match = re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        match = None
    return int(match.group(1)) * 1024 if match else 0


def _keep_tail(stream: IO[bytes], tail: bytearray) -> None:
    """Read a stream to its end and keep its last bytes."""
    while chunk := os.read(stream.fileno(), 65_536):
        tail += chunk
        del tail[:-_KEPT_OUTPUT]


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):  # every process of the group has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(output: bytearray) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return f" (it printed: {lines[-1].strip()[:200]})" if lines else ""


def _describe_status(status: int) -> str:
    if status == -signal.SIGKILL:
        return "was killed by SIGKILL, as the system does when memory runs out"
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with exit status {status} and no reply"


def encode_reply(call: Call[Any]) -> dict[str, Any]:
    """Execute a call and return its result or its error as plain data.

    Returns:
        {"result": ...}, or "kind", "error" and "traceback" of the exception as text.
    """
    try:
        return {"result": call.execute()}
    except Exception as error:
        return _encode_error(error)


def _encode_error(error: Exception) -> dict[str, Any]:
    return {
        "kind": type(error).__name__,
        "error": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }


def decode_reply(name: str, reply: dict[str, Any], memory_bytes: int = 0) -> Any:
    """Return the result in a reply, or raise its error.

    Args:
        name: the function's name, for error messages.
        reply: what `encode_reply` returned.
        memory_bytes: the worker's memory limit; 0 for none.

    Raises:
        LenetEdgeError: as `run`.
    """
    if "result" in reply:
        return reply["result"]
    if memory_bytes and reply["kind"] == "MemoryError":
        raise WorkerError(
            f"{name} needs more than the {memory_bytes / 2**30:.3g} GiB of memory available"
        )
    kind = getattr(errors, reply["kind"], None)
    if isinstance(kind, type) and issubclass(kind, LenetEdgeError):
        error = LenetEdgeError.__new__(kind)  # the message is complete: skip the class's __init__
        error.args = (reply["error"],)
        raise error
    cause = WorkerError(f"{name} failed: {reply['kind']}: {reply['error']}")
    cause.__cause__ = RuntimeError("\n" + reply["traceback"])  # shown by --debug
    raise cause


def serve(descriptor: int, memory_bytes: int) -> None:
    """Run the calls that arrive on standard input until the caller closes it.

    Args:
        descriptor: the file descriptor that replies are written to.
        memory_bytes: the limit of allocated memory; 0 for none.
    """
    _die_with_the_caller()
    limit_resource("RLIMIT_CORE", 0)  # a model that crashes leaves no core file
    if memory_bytes:
        # Not RLIMIT_AS: runtimes reserve far more addresses than they ever write to.
        limit_resource("RLIMIT_DATA", memory_bytes)
    with os.fdopen(descriptor, "w", encoding="utf-8") as replies:
        for line in sys.stdin.buffer:
            replies.write(_reply_line(line) + "\n")
            replies.flush()
    # Some runtimes crash while the interpreter shuts down; the replies are already written.
    os._exit(0)


def _reply_line(line: bytes) -> str:
    try:
        request = tagged_json.loads(line)
        call = Call(resolve(request["function"]), request["arguments"])
        return tagged_json.dumps(encode_reply(call))
    except Exception as error:  # no such function, or a result that no reply can carry
        return tagged_json.dumps(_encode_error(error))


def _die_with_the_caller() -> None:
    """Ask Linux to kill this process when its caller ends, even by SIGKILL.

    Other systems lack prctl. There a worker ends after its call, when its standard input does.
    """
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG; source: prctl(2)
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(set_parent_death_signal, signal.SIGKILL)
