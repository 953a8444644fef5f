"""What is left when the power goes: ``python -m tests.reliability.power [--kills N] [COMMAND...]``

Each command is killed (SIGKILL, with all that it has started) at random moments of its run, half of
them right after it has touched a file. Then, and on a disk from which all is gone that the kernel
had not written yet (root only), every file must be whole: the old one or a right new one, models
fitting their manifests. The same command must then succeed, without any help, and leave the same
files as an unbroken run and no temporary ones. Without --kills each command is killed 48 times.
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
from tests.reliability.jobs import JOBS, ROOT, Job, NotWholeError, look, make_inputs

KILLS = 48
_TIMEOUT_S = 300
_MARK = "LENET_EDGE_VICTIM"
_MAX_DELAY_S = 0.006  # after a touch: some writes and syncs take that long


class Victim:
    """A process of `tests.reliability.victim`, and all that it starts."""

    def __init__(self, job: Job, log: Path) -> None:
        self._mark = f"{os.getpid()}-{time.monotonic_ns()}"
        self._log = log.open("ab")
        runtime = {"XDG_RUNTIME_DIR": str(log.parent)}  # not to wait for others of this machine
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.reliability.victim", *job.imports],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, cwd=ROOT,
            start_new_session=True,
            env={**os.environ, **runtime, _MARK: self._mark, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def wait_until_ready(self) -> None:
        assert self._answer(_TIMEOUT_S), "it did not start"

    def start(self, folder: Path, arguments: Sequence[object], **more: Any) -> None:
        job = {"folder": str(folder), "arguments": list(map(str, arguments)), **more}
        assert self._process.stdin
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()

    def _answer(self, timeout_s: float) -> dict[str, Any] | None:
        """Return what it says within a time, or None: it is at work, or dead."""
        assert self._process.stdout
        if not select.select([self._process.stdout], [], [], timeout_s)[0]:
            return None
        line = self._process.stdout.readline()
        return dict(json.loads(line)) if line else None

    def run(self, folder: Path, arguments: Sequence[object]) -> dict[str, Any]:
        """Run a command to its end."""
        self.start(folder, arguments)
        answer = self._answer(_TIMEOUT_S)
        assert answer is not None, f"{arguments} did not end"
        return answer

    def ends_within(self, seconds: float) -> bool:
        """Tell whether it dies, or the command comes to its end, within a time."""
        assert self._process.stdout
        return bool(select.select([self._process.stdout], [], [], seconds)[0])

    def kill(self) -> None:
        """Kill it and what it has started, and wait until nobody is left."""
        self._process.kill()
        while left := self._alive():
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
        self._process.communicate()
        self._log.close()

    def _alive(self) -> list[int]:
        found, mark = [], f"{_MARK}={self._mark}\0".encode()
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                with contextlib.suppress(OSError):  # gone meanwhile; a dead one has no environment
                    if mark in (process / "environ").read_bytes():
                        found.append(int(process.name))
        return found


@dataclass
class Outcome:
    """What became of one command's kills."""

    name: str
    kills: int = 0
    with_new_file: int = 0  # at least one file was a new one already
    with_leftovers: int = 0  # a temporary file was left behind
    lost_with_power: int = 0  # the disk held less than the kernel had
    failures: list[str] = field(default_factory=list)


class ProcessSamples:
    """One command on one disk, killed again and again."""

    def __init__(self, job: Job, disk: Disk | Folder, inputs: Path, log: Path) -> None:
        self._job, self._disk, self._inputs, self._log = job, disk, inputs, log
        self._survivor, self._next = Victim(job, log), Victim(job, log)
        self._survivor.wait_until_ready()
        self.outcome = Outcome(job.name)
        self._right = []
        for which in (0, 1, 0):  # the first one may be slow
            self._length = self._survivor.run(disk.folder, job.arguments(inputs, which))
            assert self._length["status"] == 0, log.read_text()[-2000:]
            assert self._length["touches"] > 0
            self._right.append(look(disk.folder))
        assert self._right[0].items() <= self._right[2].items(), "two runs differ"

    def kill(self, moment: float, generator: random.Random, which: int) -> bool:
        """Kill it once, `moment` (0 to 1) of its way; tell whether it was still at work."""
        victim, self._next = self._next, Victim(self._job, self._log)
        victim.wait_until_ready()
        before = look(self._disk.folder)
        arguments = self._job.arguments(self._inputs, which)
        if generator.random() < 0.5:
            last = 1 + int(moment * self._length["touches"])
            delay_s = generator.choice([0, generator.uniform(0, _MAX_DELAY_S)])
            victim.start(self._disk.folder, arguments, last=last, delay_s=delay_s)
            victim.ends_within(_TIMEOUT_S)
        else:
            victim.start(self._disk.folder, arguments)
            victim.ends_within(moment * self._length["seconds"])
        was_at_work = victim._answer(0) is None
        self._disk.photograph()
        victim.kill()
        if was_at_work:
            self.outcome.kills += 1
            self._check(before, which, arguments)
        return was_at_work

    def _check(self, before: dict[str, str], which: int, usual: Sequence[object]) -> None:
        folder = self._disk.folder
        try:
            after = self._whole(before, folder)
            self._disk.cut()
            left = self._whole(before, folder)
            self.outcome.lost_with_power += left != after
            self.outcome.with_new_file += left != before
            self.outcome.with_leftovers += any(".tmp-" in one for one in _hidden(folder))
            answer = self._survivor.run(folder, self._job.go_on(folder, usual))
            if answer["status"] != 0:
                raise NotWholeError(f"the next run failed: {self._log.read_text()[-300:]}")
            found = look(folder)
            for name, right in self._right[which].items():
                if found.get(name) != right:
                    raise NotWholeError(f"after the next run {name} is not what it should be")
            if _hidden(folder):
                raise NotWholeError(f"after the next run there are {_hidden(folder)}")
        except NotWholeError as error:
            self.outcome.failures.append(str(error))

    def _whole(self, before: dict[str, str], folder: Path) -> dict[str, str]:
        """Return what `look` finds, having looked whether each file is an old or a right one."""
        found = look(folder)
        for name in before.keys() - found.keys():
            raise NotWholeError(f"{name} is gone")
        for name, content in found.items():
            right = {one.get(name) for one in self._right} | {before.get(name)}
            if content not in right and ".training/" not in name:  # which grows epoch by epoch
                raise NotWholeError(f"{name} is neither the old file nor a right new one")
        return found

    def end(self) -> None:
        for one in (self._survivor, self._next):
            one.kill()


def _hidden(folder: Path) -> list[str]:
    """Return the names of temporary files, locks and manifests that wait."""
    return sorted(one.name for one in folder.rglob(".*"))


@contextlib.contextmanager
def place(parent: Path) -> Iterator[Disk | Folder]:
    """A disk whose power can be cut, where there may be one."""
    parent.mkdir()
    with Folder(parent) if why_no_disk() else Disk(parent) as disk:
        yield disk


def kill_often(job: Job, kills: int, inputs: Path, work: Path, seed: int = 0) -> Outcome:
    """Kill one command `kills` times, spread over its run."""
    generator = random.Random(f"{job.name} {seed}")
    with place(work / job.name) as disk:
        trial = ProcessSamples(job, disk, inputs, work / f"{job.name}.log")
        try:
            while trial.outcome.kills < kills and not trial.outcome.failures:
                done = trial.outcome.kills
                moment = (done + generator.random()) / kills  # each part of the run has its share
                for _ in range(10):
                    if trial.kill(moment, generator, which=(done + 1) % 2):
                        break
                    moment *= generator.random()  # it had ended already
            traceback = "Traceback" in (work / f"{job.name}.log").read_text(errors="replace")
            if traceback:
                trial.outcome.failures.append(f"a traceback, see {work / job.name}.log")
        finally:
            trial.end()
    return trial.outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", 1)[1])
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help="all of them if left out")
    parser.add_argument("--kills", type=int, default=KILLS, help="of each command (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (%(default)s)")
    asked = parser.parse_args()
    print(why_no_disk() or "The power of an ext4 is cut.")
    print(f"{'':8} kills  new file  leftovers  lost with the power  failures     s")
    failed = False
    with tempfile.TemporaryDirectory() as name:
        inputs = Path(name, "inputs")
        inputs.mkdir()
        jobs = [job for job in JOBS if job.name in (asked.commands or [job.name])]
        if any(job.imports for job in jobs):
            make_inputs(inputs)
        for job in jobs:
            started = time.monotonic()
            one = kill_often(job, asked.kills, inputs, Path(name), asked.seed)
            print(f"{one.name:8}{one.kills:6}{one.with_new_file:10}{one.with_leftovers:11}"
                  f"{one.lost_with_power:21}{len(one.failures):10}"
                  f"{time.monotonic() - started:6.0f}", *one.failures, flush=True)  # fmt: skip
            failed |= bool(one.failures)
    sys.exit(failed)


if __name__ == "__main__":
    main()
