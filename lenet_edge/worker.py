"""Run one function of this package in a fresh Python process.

A runtime may print, crash, hang, allocate without end, or carry state from one model to the next;
in a process of its own it does so alone. The request goes in as JSON on standard input and the
answer comes back as JSON on a descriptor of its own, so that nothing a library prints can be
taken for an answer.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
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
serve(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
"""


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
    memory_bytes = memory_bytes or _available_bytes()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as answer:
        place = [str(_PACKAGE), function, str(answer.fileno()), str(memory_bytes)]
        command = [str(python or sys.executable), "-c", _START, *place]
        request = json.dumps(arguments).encode()
        printed, status = _run(command, function, answer.fileno(), request, timeout_s)
        answer.seek(0)  # the worker moved the position that it shares with us
        return _result(function, status, answer.read(), printed, memory_bytes)


def _available_bytes() -> int:
    try:
        found = re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        found = None
    return int(found.group(1)) * 1024 if found else 0


def _run(
    command: list[str], function: str, answer: int, request: bytes, timeout_s: float
) -> tuple[bytes, int]:
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            pass_fds=(answer,), start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise WorkerError(f"cannot start {command[0]}: {error.strerror}; check --python") from error
    assert process.stdin
    assert process.stdout
    tail = bytearray()
    reader = threading.Thread(target=_drain, args=(process.stdout, tail), daemon=True)
    reader.start()
    try:
        try:
            process.stdin.write(request)
            process.stdin.close()
        except BrokenPipeError:
            pass  # it died before it read; its status says how
        status = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        raise WorkerError(
            f"{function} did not finish within {timeout_s:g} s and was stopped"
        ) from None
    finally:
        # Ctrl-C above all: no worker may outlive its caller, nor what the worker has started.
        _kill_group(process)
        reader.join()
        process.stdout.close()
    return bytes(tail), status


def _drain(stream: IO[bytes], tail: bytearray) -> None:
    """Keep the last of what is printed, however much it is."""
    while chunk := os.read(stream.fileno(), 65_536):
        tail += chunk
        del tail[:-_KEPT_OUTPUT]


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended, and left nobody
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _result(function: str, status: int, answer: str, printed: bytes, memory_bytes: int) -> Any:
    try:
        reply = json.loads(answer)
    except ValueError:
        lines = printed.decode(errors="replace").strip().splitlines()
        said = f" (it printed: {lines[-1].strip()[:200]})" if lines else ""
        raise WorkerError(f"{function} {_how_it_ended(status)}{said}") from None
    if "result" in reply:
        return reply["result"]
    if reply["kind"] == "MemoryError":
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


def serve(function: str, descriptor: int, memory_bytes: int) -> None:
    """Answer one call. What libraries print goes to the caller's log, never to the answer.

    Args:
        function: what `call` was asked for.
        descriptor: where the answer goes.
        memory_bytes: what may be allocated; 0 for no limit.
    """
    _die_with_the_caller()
    if memory_bytes:
        # Not RLIMIT_AS: runtimes reserve far more addresses than they ever write to.
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    arguments = json.load(sys.stdin)
    reply: dict[str, Any]
    try:
        module, name = function.split(":")
        target = getattr(importlib.import_module(f"lenet_edge.{module}"), name)
        reply = {"result": target(**arguments)}
    except Exception as error:
        reply = {
            "kind": type(error).__name__,
            "error": str(error),
            "traceback": traceback.format_exc(),
        }
    with os.fdopen(descriptor, "w", encoding="utf-8") as answers:
        json.dump(reply, answers)
    # Some runtimes crash while the interpreter tears them down; the answer is out already.
    sys.stdout.flush()
    os._exit(0)


def _die_with_the_caller() -> None:
    """Ask Linux to kill this process when its caller is gone, SIGKILL of the caller included."""
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG; source: prctl(2)
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(set_parent_death_signal, signal.SIGKILL)
