"""Let every command meet hostile files, and see what it does.

The commands run one after another in a child, through click's runner, as the program runs them but
for Python's start; their workers are processes as ever. The child gets one at a time, so that when
it crashes, hangs or is killed, the command that did it is known; a new child goes on behind it.
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
LIMIT_S = 180.0  # a command that takes longer hangs
_QUICK = ("--batch-size", "1", "--rounds", "1", "--min-time", "0", "--max-time", "0.02")
_REFUSED = (1, 3, 4)


@dataclass(frozen=True)
class Outcome:
    """What one command did with one case: its exit status, and what is wrong with that, if any."""

    number: int
    format: str
    how: str
    command: str
    status: int | None
    seconds: float
    wrong: str | None = None


def run(seed: int, numbers: Iterable[int], limit_s: float = LIMIT_S) -> Iterator[Outcome]:
    """Yield what each command does with each of these cases."""
    left = [(number, command) for number in numbers for command in COMMANDS]
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        while left:
            for outcome in _child(seed, tuple(left), Path(folder), limit_s):
                assert left[0] == (outcome.number, outcome.command)
                del left[0]
                yield outcome


def _child(
    seed: int, left: Sequence[tuple[int, str]], folder: Path, limit_s: float
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
            for number, name in left:
                process.stdin.write(f"{number} {name}\n".encode())
                process.stdin.flush()
                started = time.monotonic()
                line = lines.next(limit_s)
                if line:
                    yield Outcome(**json.loads(line))
                    continue
                hangs = line is None and process.poll() is None
                how = f"no end after {limit_s:.0f} s" if hangs else "the process itself crashed"
                case = make(seed, number, Path(tempfile.mkdtemp(dir=folder)))
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                how += "" if hangs else f" ({process.wait()})"
                seconds = time.monotonic() - started
                yield Outcome(number, case.format, case.how, name, None, seconds, how)
                return
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


class _Lines:
    """Lines from a descriptor, each within a time."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._buffer = descriptor, b""

    def next(self, limit_s: float) -> bytes | None:
        """Return the next line; empty at the end, None when the time is over."""
        deadline = time.monotonic() + limit_s
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._descriptor], [], [], left)[0]:
                return None
            chunk = os.read(self._descriptor, 65_536)
            if not chunk:
                return b""
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


# --- what runs in the child ---


def serve_cases(seed: int, folder: Path) -> None:
    """Run the commands that standard input names, and tell on standard output how each ended."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    made: dict[int, Case] = {}
    for line in sys.stdin:
        number, command = int(line.split()[0]), line.split()[1]
        if number not in made:
            for old in made.values():
                shutil.rmtree(folder / f"case-{old.number}", ignore_errors=True)
            made.clear()
            place = folder / f"case-{number}"
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            made[number] = make(seed, number, place)
        answers.write(json.dumps(asdict(_one(made[number], command, folder))) + "\n")
        answers.flush()


def _one(case: Case, command: str, folder: Path) -> Outcome:
    from click.testing import CliRunner

    from lenet_edge.cli import main

    arguments = {
        "inspect": ["inspect", case.model],
        "verify": ["verify", case.model, "--target", case.target],
        "bench": ["bench", case.model, "--target", case.target, *_QUICK],
        "predict": ["predict", SEVEN, "--model", case.model],
    }
    place = folder / f"case-{case.number}"
    os.chdir(place)
    before = {path.name for path in Path("/tmp").glob("owned*")}
    started = time.monotonic()
    if command == "serve":
        with _visitor() as port:
            result = CliRunner().invoke(main, ["serve", str(case.model), "--port", str(port)])
    else:
        result = CliRunner().invoke(main, [str(one) for one in arguments[command]])
    seconds = time.monotonic() - started
    wrong = _what_is_wrong(result, case, command)
    if (place / "owned").exists() or {path.name for path in Path("/tmp").glob("owned*")} - before:
        wrong = "code from the file was run, or a file was unpacked outside"
    return Outcome(
        case.number, case.format, case.how, command, result.exit_code, round(seconds, 3), wrong
    )


def _what_is_wrong(result: Any, case: Case, command: str) -> str | None:
    printed = result.output + result.stderr
    if result.exception and not isinstance(result.exception, SystemExit):
        trace = traceback.extract_tb(result.exc_info[2])[-1]
        return f"{result.exception!r:.200} at {Path(trace.filename).name}:{trace.lineno}"
    if "Traceback" in printed:
        return "it printed a traceback"
    if re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", printed):
        return "what it printed would steer a terminal"
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
    """Yield a free port; who listens there gets an image, and is ended as systemd would."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    over = threading.Event()

    def visit() -> None:
        url = f"http://127.0.0.1:{port}"
        body = SEVEN.read_bytes()
        while not over.wait(0.02):
            try:
                urllib.request.urlopen(f"{url}/models", timeout=0.3).read()
            except OSError:
                continue  # nobody answers yet, or never will
            request = urllib.request.Request(f"{url}/predict", body, {"Content-Type": "image/jpeg"})
            with contextlib.suppress(urllib.error.HTTPError):  # an error is an answer too
                urllib.request.urlopen(request, timeout=50).read()
            os.kill(os.getpid(), signal.SIGTERM)
            return

    visitor = threading.Thread(target=visit)
    visitor.start()
    try:
        yield port
    finally:
        over.set()
        visitor.join()


def uploads(seed: int, numbers: Iterable[int]) -> Iterator[tuple[str, int, float]]:
    """Send spoilt images to a real server; yield what was done to each, the status and the seconds.

    Raises:
        AssertionError: the server crashed, printed a traceback, or no longer answers right.
    """
    from tests.hostile.mutate import SPOILT
    from tests.serve.conftest import EXPORTED, serving

    sources = sorted((*HANDWRITING.glob("*.png"), *HANDWRITING.glob("*.jpg")))
    with serving(EXPORTED / "lenet_int8.tflite") as server:
        for number in numbers:
            dice = random.Random(f"{seed}/upload/{number}")
            how = dice.choice(sorted(SPOILT))
            body = SPOILT[how](dice, bytearray(dice.choice(sources).read_bytes()))
            started = time.monotonic()
            answer = server.predict(body)
            assert set(answer.json) in ({"error"}, {"answers", "seen"}), answer
            yield how, answer.status, time.monotonic() - started
        assert server.predict(SEVEN).json["answers"][0]["label"] == "7"
        assert server.process.poll() is None
    assert "Traceback" not in "".join(server.printed), server.printed


if __name__ == "__main__":
    serve_cases(int(sys.argv[1]), Path(sys.argv[2]))
