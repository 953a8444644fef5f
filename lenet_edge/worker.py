"""Run one function of this package in a fresh Python process.

A runtime may print, crash, hang, or carry state from one model to the next; in a process of its
own it does so alone. The request goes in as JSON on standard input and the answer comes back as
JSON on a pipe of its own, so that nothing a library prints can be taken for an answer.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from typing import Any

from lenet_edge import errors
from lenet_edge.errors import LenetEdgeError, WorkerError


def call(function: str, timeout_s: float = 300.0, **arguments: Any) -> Any:
    """Call ``lenet_edge.<module>:<name>`` in a new process and return what it returned.

    Args:
        function: for example ``"bench.timing:measure"``.
        timeout_s: seconds until the worker is killed.
        arguments: what JSON can carry.

    Raises:
        LenetEdgeError: the error that the function itself raised, of the same class.
        WorkerError: the worker crashed, hung, or failed in a way nobody foresaw.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as answer:
        printed, status = _run(function, answer.fileno(), json.dumps(arguments).encode(), timeout_s)
        answer.seek(0)  # the worker moved the position that it shares with us
        return _result(function, status, answer.read(), printed)


def _run(function: str, answer: int, request: bytes, timeout_s: float) -> tuple[bytes, int]:
    command = [sys.executable, "-m", "lenet_edge.worker", function, str(answer)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        pass_fds=(answer,),
    ) as process:  # fmt: skip
        try:
            printed, _ = process.communicate(request, timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise WorkerError(
                f"{function} did not finish within {timeout_s:g} s and was stopped"
            ) from None
        except BaseException:  # Ctrl-C above all: no worker may outlive its caller
            process.kill()
            raise
        return printed, process.returncode


def _result(function: str, status: int, answer: str, printed: bytes) -> Any:
    try:
        reply = json.loads(answer)
    except ValueError:
        lines = printed.decode(errors="replace").strip().splitlines()
        said = f" (it printed: {lines[-1].strip()[:200]})" if lines else ""
        raise WorkerError(f"{function} {_how_it_ended(status)}{said}") from None
    if "result" in reply:
        return reply["result"]
    kind = getattr(errors, reply["kind"], None)
    if isinstance(kind, type) and issubclass(kind, LenetEdgeError):
        error = LenetEdgeError.__new__(kind)  # the message is whole: skip each class's __init__
        error.args = (reply["error"],)
        raise error
    cause = WorkerError(f"{function} failed: {reply['kind']}: {reply['error']}")
    cause.__cause__ = RuntimeError("\n" + reply["traceback"])  # what --debug shows
    raise cause


def _how_it_ended(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with exit status {status} and no answer"


def _main() -> None:
    """Answer one call. What libraries print goes to the caller's log, never to the answer."""
    function, descriptor = sys.argv[1], int(sys.argv[2])
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


if __name__ == "__main__":
    _main()
