"""Test of power cuts: ``python -m tests.reliability.power [--kills N] [COMMAND...]``

Each command is killed (SIGKILL, with all its processes) at random moments of its run, half of them
right after it has changed a file. Every file must then be complete, either old or new, and each
model must fit its manifest. As root, this is repeated on a disk without the data that the kernel
had not written yet. The same command must then succeed, and leave the same files as an
uninterrupted run, without temporary files. Without --kills, each command is killed 48 times.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.reliability.disk import Disk, Folder, why_no_disk
from tests.reliability.jobs import (
    JOBS,
    ROOT,
    KilledCommand,
    NotWholeError,
    hash_files,
    make_inputs,
)

KILLS = 48
_TIMEOUT_S = 300
_MARK = "LENET_EDGE_VICTIM"
_MAX_DELAY_S = 0.006  # after a change of a file: some writes and syncs take that long


class Victim:
    """Process of `tests.reliability.victim` with all its child processes."""

    def __init__(self, job: KilledCommand, log: Path) -> None:
        self._mark = f"{os.getpid()}-{time.monotonic_ns()}"
        self._log = log.open("ab")
        runtime = {"XDG_RUNTIME_DIR": str(log.parent)}  # do not wait for locks of other processes
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.victim", *job.imports],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, cwd=ROOT,
            start_new_session=True,
            env={**os.environ, **runtime, _MARK: self._mark, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def wait_until_ready(self) -> None:
        assert self._reply(_TIMEOUT_S), "it did not start"

    def start(self, folder: Path, arguments: Sequence[object], **more: Any) -> None:
        job = {"folder": str(folder), "arguments": list(map(str, arguments)), **more}
        assert self._process.stdin
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()

    def _reply(self, timeout_s: float) -> dict[str, Any] | None:
        """Return the reply, or None if there is none within the time limit."""
        assert self._process.stdout
        if not select.select([self._process.stdout], [], [], timeout_s)[0]:
            return None
        line = self._process.stdout.readline()
        return dict(json.loads(line)) if line else None

    def run(self, folder: Path, arguments: Sequence[object]) -> dict[str, Any]:
        """Run a command until it ends, and return its reply."""
        self.start(folder, arguments)
        reply = self._reply(_TIMEOUT_S)
        assert reply is not None, f"{arguments} did not end"
        return reply

    def ends_within(self, seconds: float) -> bool:
        """Return whether the process dies or the command ends within a time."""
        assert self._process.stdout
        return bool(select.select([self._process.stdout], [], [], seconds)[0])

    def kill(self) -> None:
        """Kill the process and all its children, and wait until they are gone."""
        self._process.kill()
        while pids := self._alive():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
        self._process.communicate()
        self._log.close()

    def _alive(self) -> list[int]:
        pids, mark = [], f"{_MARK}={self._mark}\0".encode()
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                with contextlib.suppress(OSError):  # it has ended meanwhile
                    if mark in (process / "environ").read_bytes():
                        pids.append(int(process.name))
        return pids


@dataclass
class Outcome:
    """Counts and failures of the kills of one command."""

    name: str
    kills: int = 0
    with_new_file: int = 0  # at least one file was already new
    with_leftovers: int = 0  # a temporary file remained
    lost_with_power: int = 0  # the disk held less than the kernel's cache
    failures: list[str] = field(default_factory=list)


class KillSeries:
    """Repeated kills of one command on one disk."""

    def __init__(self, job: KilledCommand, disk: Disk | Folder, inputs: Path, log: Path) -> None:
        self._job, self._disk, self._inputs, self._log = job, disk, inputs, log
        self._survivor, self._next = Victim(job, log), Victim(job, log)
        self._survivor.wait_until_ready()
        self.outcome = Outcome(job.name)
        self._expected = []
        for which in (0, 1, 0):  # the first run may be slow
            self._length = self._survivor.run(disk.folder, job.arguments(inputs, which))
            assert self._length["status"] == job.status, log.read_text()[-2000:]
            assert self._length["touches"] > 0
            self._expected.append(hash_files(disk.folder))
        assert self._expected[0].items() <= self._expected[2].items(), "two runs differ"

    def kill(self, moment: float, generator: random.Random, which: int) -> bool:
        """Kill the command at `moment` (0 to 1) of its run; return whether it was still running."""
        victim, self._next = self._next, Victim(self._job, self._log)
        victim.wait_until_ready()
        before = hash_files(self._disk.folder)
        arguments = self._job.arguments(self._inputs, which)
        if generator.random() < 0.5:
            last = 1 + int(moment * self._length["touches"])
            delay_s = generator.choice([0, generator.uniform(0, _MAX_DELAY_S)])
            victim.start(self._disk.folder, arguments, last=last, delay_s=delay_s)
            victim.ends_within(_TIMEOUT_S)
        else:
            victim.start(self._disk.folder, arguments)
            victim.ends_within(moment * self._length["seconds"])
        was_running = victim._reply(0) is None
        self._disk.photograph()
        victim.kill()
        if was_running:
            self.outcome.kills += 1
            self._check(before, which, arguments)
        return was_running

    def _check(self, before: dict[str, str], which: int, usual: Sequence[object]) -> None:
        folder = self._disk.folder
        try:
            after_kill = self._check_files(before, folder)
            self._disk.cut()
            after_cut = self._check_files(before, folder)
            self.outcome.lost_with_power += after_cut != after_kill
            self.outcome.with_new_file += after_cut != before
            self.outcome.with_leftovers += any(".tmp-" in name for name in _hidden(folder))
            reply = self._survivor.run(folder, self._job.go_on(folder, usual))
            if reply["status"] != self._job.status:
                raise NotWholeError(f"the next run failed: {self._log.read_text()[-300:]}")
            files = hash_files(folder)
            for name, expected in self._expected[which].items():
                if files.get(name) != expected:
                    raise NotWholeError(f"after the next run {name} has the wrong content")
            if _hidden(folder):
                raise NotWholeError(f"after the next run there are {_hidden(folder)}")
        except NotWholeError as error:
            self.outcome.failures.append(str(error))

    def _check_files(self, before: dict[str, str], folder: Path) -> dict[str, str]:
        """Check that each file is old or new, and return the hash of each file."""
        files = hash_files(folder)
        for name in before.keys() - files.keys():
            raise NotWholeError(f"{name} is missing")
        for name, content in files.items():
            allowed = {run.get(name) for run in self._expected} | {before.get(name)}
            if content not in allowed and ".training/" not in name:  # it grows with each epoch
                raise NotWholeError(f"{name} is neither the old file nor a right new file")
        return files

    def end(self) -> None:
        for victim in (self._survivor, self._next):
            victim.kill()


def _hidden(folder: Path) -> list[str]:
    """Return the names of temporary files, locks and announced manifests."""
    return sorted(path.name for path in folder.rglob(".*"))


@contextlib.contextmanager
def disk_or_folder(parent: Path) -> Iterator[Disk | Folder]:
    """Yield a disk whose power can be cut, or a plain folder if no disk can be mounted."""
    parent.mkdir()
    with Folder(parent) if why_no_disk() else Disk(parent) as disk:
        yield disk


def kill_often(job: KilledCommand, kills: int, inputs: Path, work: Path, seed: int = 0) -> Outcome:
    """Kill one command `kills` times, at moments spread over its run."""
    generator = random.Random(f"{job.name} {seed}")
    with disk_or_folder(work / job.name) as disk:
        series = KillSeries(job, disk, inputs, work / f"{job.name}.log")
        try:
            while series.outcome.kills < kills and not series.outcome.failures:
                done = series.outcome.kills
                # Each part of the run gets the same number of kills.
                moment = (done + generator.random()) / kills
                for _ in range(10):
                    if series.kill(moment, generator, which=(done + 1) % 2):
                        break
                    moment *= generator.random()  # the command had ended
            traceback = "Traceback" in (work / f"{job.name}.log").read_text(errors="replace")
            if traceback:
                series.outcome.failures.append(f"a traceback, see {work / job.name}.log")
        finally:
            series.end()
    return series.outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", 1)[1])
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help="default: every command")
    parser.add_argument("--kills", type=int, default=KILLS, help="kills per command (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (%(default)s)")
    options = parser.parse_args()
    print(why_no_disk() or "The power of an ext4 is cut.")
    print(f"{'':8} kills  new file  leftovers  lost with the power  failures     s")
    failed = False
    with tempfile.TemporaryDirectory() as name:
        inputs = Path(name, "inputs")
        inputs.mkdir()
        jobs = [job for job in JOBS if job.name in (options.commands or [job.name])]
        if any(job.imports for job in jobs):
            make_inputs(inputs)
        for job in jobs:
            started = time.monotonic()
            outcome = kill_often(job, options.kills, inputs, Path(name), options.seed)
            print(f"{outcome.name:8}{outcome.kills:6}{outcome.with_new_file:10}"
                  f"{outcome.with_leftovers:11}{outcome.lost_with_power:21}"
                  f"{len(outcome.failures):10}{time.monotonic() - started:6.0f}",
                  *outcome.failures, flush=True)  # fmt: skip
            failed |= bool(outcome.failures)
    sys.exit(failed)


if __name__ == "__main__":
    main()
