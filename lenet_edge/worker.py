"""Run functions of this package in a fresh Python process: one, or a conversation of many.

A runtime may print, crash, hang, allocate without end, or carry state from one model to the next;
in a process of its own it does so alone. A request goes in as a line of JSON on standard input and
the answer comes back as a line of JSON on a pipe of its own, so that nothing a library prints can
be taken for an answer.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lenet_edge import errors
from lenet_edge.errors import LenetEdgeError, WorkerError

_KEPT_OUTPUT = 10_000  # bytes of what a worker printed last, for the message when it dies
_PACKAGE = Path(__file__).parent
# Another Python has its own runtimes but must run this very package: it is loaded by its place,
# because putting its folder on the path would bring this Python's packages along.
_START = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location(
    "lenet_edge", sys.argv[1] + "/__init__.py", submodule_search_locations=[sys.argv[1]])
module = sys.modules["lenet_edge"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from lenet_edge.worker import serve
serve(int(sys.argv[2]), int(sys.argv[3]))
"""


@dataclass(frozen=True)
class Call:
    """A function of this package, ``<module>:<name>``, with what JSON can carry for arguments.

    `timeout_s` is by when it has answered or failed by itself.
    """

    function: str
    arguments: dict[str, Any]
    timeout_s: float = 300.0


# A work asks for one call after another: it is sent what each returned, or thrown what it raised.
Work = Generator[Call, Any, None]


def do(work: Work) -> None:
    """Do a work in this process, to its end."""
    with contextlib.closing(work), contextlib.suppress(StopIteration):
        asked = next(work)
        while True:
            try:
                answer = _function(asked.function)(**asked.arguments)
            except LenetEdgeError as error:
                asked = work.throw(error)
            else:
                asked = work.send(answer)


def call(
    function: str,
    timeout_s: float = 300.0,
    python: Path | None = None,
    memory_bytes: int | None = None,
    **arguments: Any,
) -> Any:
    """Call ``lenet_edge.<module>:<name>`` in a new process and return what it returned.

    Args:
        function: for example ``"bench.timing:measure"``.
        timeout_s: seconds until the worker is killed.
        python: an interpreter of another environment; this one if left out.
        memory_bytes: what the worker may allocate; what the machine has available if left out.
        arguments: what JSON can carry.

    Raises:
        LenetEdgeError: the error that the function itself raised, of the same class.
        WorkerError: the worker crashed, hung, or failed in a way nobody foresaw.
    """
    with contextlib.closing(Worker(python, memory_bytes)) as worker:
        return worker.call(function, timeout_s, **arguments)


class Worker:
    """A process that answers one call after another, so that what it has opened stays open.

    After a `WorkerError` it may be gone: close it and start another.
    """

    def __init__(self, python: Path | None = None, memory_bytes: int | None = None) -> None:
        self._memory_bytes = memory_bytes or _available_bytes()
        self._answers, theirs = os.pipe()
        place = [str(_PACKAGE), str(theirs), str(self._memory_bytes)]
        command = [str(python or sys.executable), "-c", _START, *place]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                pass_fds=(theirs,), start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            os.close(self._answers)
            raise WorkerError(
                f"cannot start {command[0]}: {error.strerror}; check --python"
            ) from error
        finally:
            os.close(theirs)  # so that its end shows as the end of the pipe
        assert self._process.stdin
        assert self._process.stdout
        os.set_blocking(self._process.stdin.fileno(), False)  # a stopped worker may not hold us
        self._printed = bytearray()
        self._reader = threading.Thread(
            target=_drain, args=(self._process.stdout, self._printed), daemon=True
        )
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def call(self, function: str, timeout_s: float = 300.0, **arguments: Any) -> Any:
        """Call a function in the worker and return what it returned; see the module's `call`."""
        request = json.dumps({"function": function, "arguments": arguments}).encode() + b"\n"
        deadline = time.monotonic() + timeout_s
        try:
            with contextlib.suppress(BrokenPipeError):  # it died; its status says how
                self._send(request, deadline)
            answer = self._read_answer(deadline)
            if answer is None:
                status = self._process.wait(max(0.0, deadline - time.monotonic()))
                self._reader.join(1)
                raise WorkerError(f"{function} {_how_it_ended(status)}{_said(self._printed)}")
        except (TimeoutError, subprocess.TimeoutExpired):
            raise WorkerError(
                f"{function} did not finish within {timeout_s:g} s and was stopped"
            ) from None
        return result_of(function, json.loads(answer), self._memory_bytes)

    def _send(self, request: bytes, deadline: float) -> None:
        assert self._process.stdin
        descriptor, left = self._process.stdin.fileno(), memoryview(request)
        while left:
            _wait(descriptor, select.POLLOUT, deadline)
            left = left[os.write(descriptor, left) :]

    def _read_answer(self, deadline: float) -> bytes | None:
        """Return the line of the answer, or None when the worker has ended."""
        pieces = []
        while True:
            _wait(self._answers, select.POLLIN, deadline)
            chunk = os.read(self._answers, 65_536)
            if not chunk:
                return None
            pieces.append(chunk)
            if chunk.endswith(b"\n"):  # JSON has none inside
                return b"".join(pieces)

    def close(self) -> None:
        """End the process and all that it has started."""
        # Ctrl-C above all: no worker may outlive its caller, nor what the worker has started.
        _kill_group(self._process)
        self._reader.join()
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        os.close(self._answers)


def _wait(descriptor: int, event: int, deadline: float) -> None:
    poll = select.poll()  # select() fails on descriptors above 1023
    poll.register(descriptor, event)
    left_s = deadline - time.monotonic()
    if left_s <= 0 or not poll.poll(left_s * 1000):
        raise TimeoutError


def _available_bytes() -> int:
    try:
        found = re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        found = None
    return int(found.group(1)) * 1024 if found else 0


def _drain(stream: IO[bytes], tail: bytearray) -> None:
    """Keep the last of what is printed, however much it is."""
    while chunk := os.read(stream.fileno(), 65_536):
        tail += chunk
        del tail[:-_KEPT_OUTPUT]


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended, and left nobody
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _said(printed: bytearray) -> str:
    lines = printed.decode(errors="replace").strip().splitlines()
    return f" (it printed: {lines[-1].strip()[:200]})" if lines else ""


def result_of(function: str, reply: dict[str, Any], memory_bytes: int = 0) -> Any:
    """Return the result that `reply` put into words, or raise its error; see `call`."""
    if "result" in reply:
        return reply["result"]
    if memory_bytes and reply["kind"] == "MemoryError":
        raise WorkerError(
            f"{function} asked for more than the {memory_bytes / 2**30:.1f} GiB of memory there is"
        )
    kind = getattr(errors, reply["kind"], None)
    if isinstance(kind, type) and issubclass(kind, LenetEdgeError):
        error = LenetEdgeError.__new__(kind)  # the message is whole: skip each class's __init__
        error.args = (reply["error"],)
        raise error
    cause = WorkerError(f"{function} failed: {reply['kind']}: {reply['error']}")
    cause.__cause__ = RuntimeError("\n" + reply["traceback"])  # what --debug shows
    raise cause


def _how_it_ended(status: int) -> str:
    if status == -signal.SIGKILL:
        return "was killed by SIGKILL, as the system does when memory runs out"
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with exit status {status} and no answer"


def serve(descriptor: int, memory_bytes: int) -> None:
    """Answer calls until the caller closes its end.

    What libraries print goes to the caller's log, never to an answer.

    Args:
        descriptor: where the answers go.
        memory_bytes: what may be allocated; 0 for no limit.
    """
    _die_with_the_caller()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a model that crashes leaves no file behind
    if memory_bytes:
        # Not RLIMIT_AS: runtimes reserve far more addresses than they ever write to.
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    with os.fdopen(descriptor, "w", encoding="utf-8") as answers:
        for line in sys.stdin:
            answers.write(json.dumps(reply(**json.loads(line))) + "\n")
            answers.flush()
    # Some runtimes crash while the interpreter tears them down; the answers are out already.
    os._exit(0)


def reply(function: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Call a function of this package, and return its result or its error as plain data."""
    try:
        return {"result": _function(function)(**arguments)}
    except Exception as error:
        return {
            "kind": type(error).__name__,
            "error": str(error),
            "traceback": traceback.format_exc(),
        }


def _function(name: str) -> Any:
    module, function = name.split(":")
    return getattr(importlib.import_module(f"lenet_edge.{module}"), function)


def _die_with_the_caller() -> None:
    """Ask Linux to kill this process when its caller is gone, SIGKILL of the caller included."""
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG; source: prctl(2)
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(set_parent_death_signal, signal.SIGKILL)
