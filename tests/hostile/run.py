"""Runner that gives hostile files to every command and records the outcomes.

The commands run one after another in a child process, through click's test runner. This saves the
start of Python; workers are separate processes as usual. The child receives one command at a time.
If it crashes, hangs or is killed, the last command caused it, and a new child continues.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.hostile.mutate import COMMANDS, Case, make

ROOT = Path(__file__).parents[2]
HANDWRITING = ROOT / "tests" / "data" / "handwriting"
SEVEN = HANDWRITING / "7-hasty-crayon.jpg"
LIMIT_S = 180.0  # a slower command counts as hanging
_QUICK = ("--batch-size", "1", "--rounds", "1", "--min-time", "0", "--max-time", "0.02")
_REFUSED = (1, 3, 4)


@dataclass(frozen=True)
class Outcome:
    """Outcome of one command on one case: its exit status, and its fault if there is one."""

    number: int
    format: str
    how: str
    command: str
    status: int | None
    seconds: float
    fault: str | None = None


def run(seed: int, numbers: Iterable[int], limit_s: float = LIMIT_S) -> Iterator[Outcome]:
    """Yield the outcome of each command on each of these cases."""
    pending = [(number, command) for number in numbers for command in COMMANDS]
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        while pending:
            for outcome in _run_child(seed, tuple(pending), Path(folder), limit_s):
                assert pending[0] == (outcome.number, outcome.command)
                del pending[0]
                yield outcome


def _run_child(
    seed: int, pending: Sequence[tuple[int, str]], folder: Path, limit_s: float
) -> Iterator[Outcome]:
    command = [sys.executable, "-m", "tests.hostile.run", str(seed), str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
        start_new_session=True, cwd=ROOT,
    ) as process:  # fmt: skip
        assert process.stdin
        assert process.stdout
        lines = _Lines(process.stdout.fileno())
        try:
            for number, name in pending:
                process.stdin.write(f"{number} {name}\n".encode())
                process.stdin.flush()
                started = time.monotonic()
                line = lines.next(limit_s)
                if line:
                    yield Outcome(**json.loads(line))
                    continue
                hangs = line is None and process.poll() is None
                fault = f"no end after {limit_s:.0f} s" if hangs else "the process itself crashed"
                case = make(seed, number, Path(tempfile.mkdtemp(dir=folder)))
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                fault += "" if hangs else f" ({process.wait()})"
                seconds = time.monotonic() - started
                yield Outcome(number, case.format, case.how, name, None, seconds, fault)
                return
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


class _Lines:
    """Reader of lines from a file descriptor, with a time limit for each line."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._buffer = descriptor, b""

    def next(self, limit_s: float) -> bytes | None:
        """Return the next line, b"" at the end of the stream, or None after the time limit."""
        deadline = time.monotonic() + limit_s
        while b"\n" not in self._buffer:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0 or not select.select([self._descriptor], [], [], remaining_s)[0]:
                return None
            chunk = os.read(self._descriptor, 65_536)
            if not chunk:
                return b""
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


# --- the child process ---


def serve_cases(seed: int, folder: Path) -> None:
    """Run the commands named on standard input, and write each outcome to standard output."""
    outcomes = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    cases: dict[int, Case] = {}
    for line in sys.stdin:
        number, command = int(line.split()[0]), line.split()[1]
        if number not in cases:
            for old in cases.values():
                shutil.rmtree(folder / f"case-{old.number}", ignore_errors=True)
            cases.clear()
            case_folder = folder / f"case-{number}"
            shutil.rmtree(case_folder, ignore_errors=True)
            case_folder.mkdir()
            cases[number] = make(seed, number, case_folder)
        outcomes.write(json.dumps(asdict(_run_command(cases[number], command, folder))) + "\n")
        outcomes.flush()


def _run_command(case: Case, command: str, folder: Path) -> Outcome:
    from click.testing import CliRunner

    from lenet_edge.cli import main

    arguments = {
        "inspect": ["inspect", case.model],
        "verify": ["verify", case.model, "--target", case.target],
        "bench": ["bench", case.model, "--target", case.target, *_QUICK],
        "predict": ["predict", SEVEN, "--model", case.model],
    }
    case_folder = folder / f"case-{case.number}"
    os.chdir(case_folder)
    before = {path.name for path in Path("/tmp").glob("owned*")}
    started = time.monotonic()
    if command == "serve":
        with _visitor() as port:
            result = CliRunner().invoke(main, ["serve", str(case.model), "--port", str(port)])
    else:
        result = CliRunner().invoke(main, [str(word) for word in arguments[command]])
    seconds = time.monotonic() - started
    fault = _fault_of(result, case, command)
    if (case_folder / "owned").exists() or {
        path.name for path in Path("/tmp").glob("owned*")
    } - before:
        fault = "code from the file was run, or a file was unpacked outside"
    return Outcome(
        case.number, case.format, case.how, command, result.exit_code, round(seconds, 3), fault
    )


def _fault_of(result: Any, case: Case, command: str) -> str | None:
    printed = result.output + result.stderr
    if result.exception and not isinstance(result.exception, SystemExit):
        trace = traceback.extract_tb(result.exc_info[2])[-1]
        return f"{result.exception!r:.200} at {Path(trace.filename).name}:{trace.lineno}"
    if "Traceback" in printed:
        return "it printed a traceback"
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", printed):
        return "its output contains control characters"
    if result.exit_code not in (0, *_REFUSED):
        return f"exit status {result.exit_code}: {printed[-200:]}"
    if result.exit_code == 0 and command in case.refused_by:
        return "it was not refused"
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    if result.exit_code == 1 and (len(errors) != 1 or len(errors[0]) > 1500):
        return f"not one clear line: {result.stderr[-300:]}"
    return None


@contextlib.contextmanager
def _visitor() -> Iterator[int]:
    """Yield a free port. Send an image to the server that listens there, then SIGTERM."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    ended = threading.Event()

    def visit() -> None:
        url = f"http://127.0.0.1:{port}"
        body = SEVEN.read_bytes()
        while not ended.wait(0.02):
            try:
                urllib.request.urlopen(f"{url}/models", timeout=0.3).read()
            except OSError:
                continue  # the server is not ready, or refused the file
            request = urllib.request.Request(f"{url}/predict", body, {"Content-Type": "image/jpeg"})
            with contextlib.suppress(urllib.error.HTTPError):  # an error status is a valid response
                urllib.request.urlopen(request, timeout=50).read()
            os.kill(os.getpid(), signal.SIGTERM)
            return

    visitor = threading.Thread(target=visit)
    visitor.start()
    try:
        yield port
    finally:
        ended.set()
        visitor.join()


def uploads(seed: int, numbers: Iterable[int]) -> Iterator[tuple[str, int, float]]:
    """Send damaged images to a real server; yield the damage, the status and the seconds of each.

    Raises:
        AssertionError: the server crashed, printed a traceback, or predicts a wrong digit.
    """
    from tests.hostile.mutate import DAMAGES
    from tests.serve.conftest import EXPORTED, serving

    sources = sorted((*HANDWRITING.glob("*.png"), *HANDWRITING.glob("*.jpg")))
    with serving(EXPORTED / "lenet_int8.tflite") as server:
        for number in numbers:
            dice = random.Random(f"{seed}/upload/{number}")
            how = dice.choice(sorted(DAMAGES))
            body = DAMAGES[how](dice, bytearray(dice.choice(sources).read_bytes()))
            started = time.monotonic()
            response = server.predict(body)
            assert set(response.json) in ({"error"}, {"answers", "seen"}), response
            yield how, response.status, time.monotonic() - started
        assert server.predict(SEVEN).json["answers"][0]["label"] == "7"
        assert server.process.poll() is None
    assert "Traceback" not in "".join(server.printed), server.printed


if __name__ == "__main__":
    serve_cases(int(sys.argv[1]), Path(sys.argv[2]))
