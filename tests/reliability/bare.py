"""Every command in bare environments: closed and full streams, no room, no home, low limits.

    python -m tests.reliability.bare                      every command in every environment
    python -m tests.reliability.bare --environment HOME   some environments
    python -m tests.reliability.bare --command predict    some commands
    python -m tests.reliability.bare --whole              trainings, exports, probes of all targets

A command must end within the limit. It succeeds, or it prints one line that says what is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import itertools
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import click
import numpy as np

from lenet_edge import cli
from lenet_edge.data import mnist
from tests.reliability import disk
from tests.reliability.jobs import EXPORTED, GOLDEN, ROOT

LIMIT_S = 60.0
PROMISED_S = 10.0
_PHOTO = ROOT / "tests" / "data" / "handwriting" / "7-hasty-crayon.jpg"
_INT8 = EXPORTED / "lenet_int8.tflite"
_BENCH = ("--batch-size", 1, "--rounds", 1, "--min-time", 0, "--max-time", 0.02)


@dataclass(frozen=True)
class Inputs:
    """Folder with the inputs of the commands, whose names all start with `stem`."""

    folder: Path
    stem: str

    @classmethod
    def make(cls, folder: Path, stem: str, whole: bool = False) -> Inputs:
        inputs = cls(folder, stem)
        for source, target in ((_INT8, inputs.model), (_PHOTO, inputs.photo)):
            shutil.copyfile(source, target)
        shutil.copyfile(f"{_INT8}.json", f"{inputs.model}.json")
        shutil.copyfile(GOLDEN / "schema-3.json", inputs.results)
        for reference in EXPORTED.glob("reference-*"):
            shutil.copy(reference, folder)
        if whole:
            part = mnist.load("test")
            images, labels = part.images[:500], part.labels[:500]
            np.savez(inputs.images, x_train=images, y_train=labels, x_test=images, y_test=labels)
        return inputs

    @property
    def model(self) -> Path:
        return self.folder / f"{self.stem}.tflite"

    @property
    def photo(self) -> Path:
        return self.folder / f"{self.stem}.jpg"

    @property
    def results(self) -> Path:
        return self.folder / f"{self.stem}.results"

    @property
    def images(self) -> Path:
        return self.folder / f"{self.stem}.npz"

    def output(self, suffix: str) -> Path:
        return self.folder / "out" / f"{self.stem}{suffix}"


# The arguments of each command. A command that needs TensorFlow or minutes is refused before that.
ARGUMENTS: dict[str, Callable[[Inputs], Sequence[object]]] = {
    "bench": lambda i: (i.model, "--target", "litert", *_BENCH, "--json", i.output(".b.json")),
    "bundle": lambda i: (i.model, "--num-images", 20, "--output", i.output(".tar.xz")),
    "card": lambda i: ("--check", i.photo),
    "compare": lambda i: (i.results, i.results),
    "deploy": lambda i: ("127.0.0.1", i.model, "-o", "Port=1"),
    "describe": lambda i: (i.model,),
    "doctor": lambda i: ("--help",),
    "estimate": lambda i: (i.model, "--accelerator", "ethos-u55-32"),
    "export": lambda i: (i.photo,),
    "finetune": lambda i: (i.photo,),
    "fleet down": lambda i: ("--port", _free_port()),
    "fleet status": lambda i: ("--port", _free_port()),
    "fleet up": lambda i: ("--inventory", i.results),
    "history": lambda i: (i.results,),
    "inspect": lambda i: (i.model, "--json", i.output(".i.json")),
    "predict": lambda i: (i.photo, "--model", i.model, "--target", "litert"),
    "report": lambda i: (i.results, "--output", i.output(".md")),
    "run": lambda i: (i.photo,),
    "search": lambda i: ("--resume", "--output-dir", i.output("")),
    "serve": lambda i: (i.model, "--target", "litert", "--port", _free_port()),
    "targets": lambda i: ("--help",),
    "train": lambda i: ("--output", i.photo),
    "tune": lambda i: (i.photo,),
    "verify": lambda i: (i.model, "--target", "litert", "--json", i.output(".v.json")),
}
# These do all their work, in up to a minute.
WHOLE: dict[str, Callable[[Inputs], Sequence[object]]] = {
    "doctor": lambda i: (),
    "export": lambda i: (EXPORTED / "lenet.keras", "--int8", "--output-dir", i.folder / "exported"),
    "inspect": lambda i: (EXPORTED / "lenet.keras",),
    "targets": lambda i: (),
    "train": lambda i: (
        "--dataset",
        i.images,
        "--recipe",
        "classic",
        "--epochs",
        1,
        "--output",
        i.output(".keras"),
    ),
}


def command_names(group: click.Group = cli.main, prefix: str = "") -> list[str]:
    """Return the names of all commands, such as "bench" and "fleet up"."""
    context, names = click.Context(group), []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        inner = isinstance(command, click.Group)
        names += command_names(command, f"{name} ") if inner else [prefix + name]  # type: ignore[arg-type]
    return names


def _free_port() -> int:
    while True:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port: int = listener.getsockname()[1]
        if port <= 60_000:  # the range of `fleet`
            return port


@dataclass(frozen=True)
class Environment:
    """Environment of a command.

    `streams` are the descriptors 0, 1 and 2: "-" open, "c" closed, "f" /dev/full, "p" a pipe that
    nobody reads. `limits` are (resource, bytes or number). `setup` is a shell command that runs in
    a mount namespace before the command. `tmp` are the mount options of a file system for TMPDIR.
    """

    name: str
    streams: str = "---"
    variables: dict[str, str | None] = field(default_factory=dict)
    limits: tuple[tuple[int, int], ...] = ()
    setup: str = ""
    tmp: str = ""
    stem: str = "lenet"


_ASCII = {"LC_ALL": "C", "LANG": None, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
_NOBODY = "mount --bind /dev/null /etc/passwd"
# The folder of the test remains writable.
_NO_TEMP = (
    "w=$PWD; for f in /tmp /var/tmp; do mount --bind $f $f; mount -o remount,bind,ro $f; done;"
    ' mount --bind "$w" "$w"; mount -o remount,bind,rw "$w"; cd /proc'
)
_LONG = "n" * (255 - len(".tflite.json"))
MIB = 2**20
_PR_CAPBSET_DROP, _CAP_SYS_RESOURCE = 24, 24  # source: prctl(2), capabilities(7)

STREAMS = [
    Environment(f"descriptors {''.join(pattern)}", "".join(pattern))
    for pattern in itertools.product("-c", repeat=3)
] + [
    Environment(f"descriptors {pattern}", pattern)
    for pattern in ("-f-", "--f", "-ff", "cfc", "-p-", "--p", "-pp")
]
OTHERS = [
    Environment("TMPDIR full", tmp="size=8k"),
    Environment("TMPDIR read-only", tmp="ro"),
    Environment("TMPDIR missing", variables={"TMPDIR": "/missing"}),
    Environment("no temporary folder", setup=_NO_TEMP),
    Environment(
        "no HOME, no passwd", variables={"HOME": None, "USER": None, "LOGNAME": None}, setup=_NOBODY
    ),
    Environment("HOME read-only", variables={"HOME": "/proc"}),
    Environment("no variables", variables=dict.fromkeys({*os.environ} - {"PATH"})),
    Environment("no programs", variables={"PATH": "/missing"}),
    Environment("deleted folder", setup='cd "$(mktemp -d)"; rmdir "$PWD"'),
    Environment("NOFILE 64", limits=((resource.RLIMIT_NOFILE, 64),)),
    Environment("NOFILE 16", limits=((resource.RLIMIT_NOFILE, 16),)),
    Environment("DATA 2 GiB", limits=((resource.RLIMIT_DATA, 2048 * MIB),)),
    Environment("DATA 256 MiB", limits=((resource.RLIMIT_DATA, 256 * MIB),)),
    Environment("DATA 32 MiB", limits=((resource.RLIMIT_DATA, 32 * MIB),)),
    # Python itself crashes below 96 kB.
    Environment("STACK 128 kB", limits=((resource.RLIMIT_STACK, 131_072),)),
    Environment("ASCII", variables=_ASCII),
    Environment("ASCII, other names", variables=_ASCII, stem="ziffer-ü…\udcff"),
    Environment("PYTHONIOENCODING", variables={"PYTHONIOENCODING": "ascii:strict"}, stem="ü"),
    Environment("other names", stem="ziffer-ü…\udcff"),
    Environment("long names", stem=_LONG),
    Environment("no /proc", setup="mount -t tmpfs tmpfs /proc"),
    Environment("no /dev/shm", setup="mount -t tmpfs -o ro tmpfs /dev/shm"),
]
ENVIRONMENTS = {environment.name: environment for environment in (*STREAMS, *OTHERS)}


@dataclass(frozen=True)
class Outcome:
    """Outcome of a command: `status` is None after the time limit; `fault` None if it was fine."""

    status: int | None
    seconds: float
    stdout: str
    stderr: str
    fault: str | None

    @property
    def line(self) -> str:
        return next((line for line in self.stderr.splitlines() if line.startswith("Error: ")), "")


@contextlib.contextmanager
def _temporary_folder(environment: Environment, parent: Path) -> Iterator[dict[str, str]]:
    if not environment.tmp:
        yield {}
        return
    with disk.mounted(parent / "tmp", environment.tmp) as folder:
        yield {"TMPDIR": str(folder)}


def run(environment: Environment, command: str, inputs: Inputs, whole: bool = False) -> Outcome:
    """Run a command in an environment, in its own process group, which is killed at the end."""
    arguments = (WHOLE if whole else ARGUMENTS)[command](inputs)
    words = [sys.executable, "-m", "lenet_edge", *command.split(), *map(str, arguments)]
    if environment.setup:
        words = ["unshare", "-m", "sh", "-ec", f'{environment.setup}; exec "$@"', "sh", *words]
    variables: dict[str, str | None] = {
        **os.environ,
        **environment.variables,
        "PYTHONPATH": str(ROOT),
    }
    variables["XDG_RUNTIME_DIR"] = str(inputs.folder)
    with (
        _temporary_folder(environment, inputs.folder) as temporary,
        tempfile.TemporaryFile() as out,
    ):
        with tempfile.TemporaryFile() as err:
            known = {name: value for name, value in variables.items() if value is not None}
            started = time.monotonic()
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=inputs.folder,
                start_new_session=True, env=known | temporary,
                preexec_fn=lambda: _prepare(environment),  # noqa: PLW1509
            )  # fmt: skip
            try:
                if command == "serve":
                    _stop_server(process, int(words[-1]))
                status: int | None = process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                status = None
            seconds = time.monotonic() - started
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            stdout, stderr = _content(out), _content(err)
    fault = _fault(environment, status, stdout, stderr)
    return Outcome(status, seconds, stdout, stderr, fault)


def _prepare(environment: Environment) -> None:
    """Set the limits and the streams in the child, before the program starts."""
    if environment.limits:  # root could raise its own hard limits
        ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_SYS_RESOURCE, 0, 0, 0)
    for which, limit in environment.limits:
        resource.setrlimit(which, (limit, limit))
    for descriptor, kind in enumerate(environment.streams):
        if kind == "c":
            os.close(descriptor)
        elif kind == "f":
            os.dup2(os.open("/dev/full", os.O_RDWR), descriptor)
        elif kind == "p":
            reader, writer = os.pipe()
            os.close(reader)
            os.dup2(writer, descriptor)


def _stop_server(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the server listens, and stop it with SIGTERM."""
    deadline = time.monotonic() + LIMIT_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)  # it ends by itself if it cannot print its address
            process.terminate()
            return
        time.sleep(0.05)


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _fault(environment: Environment, status: int | None, stdout: str, stderr: str) -> str | None:
    """Return what breaks the promise, or None."""
    if status is None:
        return f"no end after {LIMIT_S:g} s"
    if status < 0 or status > 4:
        return f"status {status}"
    if unwanted := re.search("Traceback|Exception ignored|Exception in thread", stdout + stderr):
        return unwanted.group()
    if status in (1, 2) and environment.streams[2] == "-":
        errors = [line for line in stderr.splitlines() if line.startswith("Error: ")]
        if environment.streams[1] == "p" and not errors:
            return None
        if stderr.splitlines()[-1:] != errors:
            return f"{len(errors)} lines of errors"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--environment", action="append", metavar="TEXT", help="of the name")
    parser.add_argument("--command", action="append", metavar="NAME", choices=list(ARGUMENTS))
    parser.add_argument("--whole", action="store_true", help="only commands that take up to 1 min")
    options = parser.parse_args()
    names = options.command or list(WHOLE if options.whole else ARGUMENTS)
    faults = runs = slow = 0
    for environment in ENVIRONMENTS.values():
        if not any(part in environment.name for part in options.environment or [""]):
            continue
        slowest, statuses, wrong = (0.0, ""), [], []
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                outcome = run(
                    environment,
                    name,
                    Inputs.make(Path(folder), environment.stem, options.whole),
                    options.whole,
                )
            runs += 1
            slow += outcome.seconds > PROMISED_S
            slowest = max(slowest, (outcome.seconds, name))
            statuses.append(str(outcome.status))
            if outcome.fault:
                faults += 1
                wrong.append(f"    {name}: {outcome.fault}: {outcome.stderr[-300:]!r}")
            elif outcome.status:
                wrong.append(f"    {name}: {outcome.line[:160]}")
        print(
            f"{environment.name:24} {' '.join(statuses)}  slowest {slowest[0]:.1f} s ({slowest[1]})"
        )
        print(*wrong, sep="\n", flush=True)
    print(f"{runs} commands, {faults} faults, {slow} took more than {PROMISED_S:g} s")
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
