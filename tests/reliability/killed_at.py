"""Program that runs a command again and again, and kills it at chosen moments.

    python -m tests.reliability.killed_at JOB

JOB is JSON: the `program` (module and function), its `arguments`, those to `resume`, and `folders`
with the moments of each. In each folder, a child process runs the command for each moment, and ends
itself there with SIGKILL. Another child then runs it to the end. From the second child on, the
arguments to resume are added. This process imports TensorFlow once, because that takes seconds.
Moments are:

epoch N         100 steps of epoch N are done, or all if there are fewer; nothing of them is saved
renaming NAME   the new content of file NAME is complete, under its temporary name
renamed NAME    it has just got its name
removed NAME    file NAME has just been deleted
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lenet_edge.flows import datasets  # noqa: F401  each child would import it
from lenet_edge.train.loop import EpochRunner


def _die() -> None:
    signal.raise_signal(signal.SIGKILL)  # it has no audit event of its own, as os.kill has


def _arm(moment: str) -> None:
    """Kill this process at a moment."""
    kind, target = moment.split()
    if kind == "epoch":
        _die_in_epoch(int(target))
        return
    event, number = ("os.remove", 0) if kind == "removed" else ("os.rename", 1)
    is_past = False

    def watch(name: str, arguments: tuple[Any, ...]) -> None:
        # An audit event comes before its operation. The next event shows that this one is done.
        nonlocal is_past
        if is_past:
            _die()
        if name == event and os.fsdecode(arguments[number]).endswith(target):
            is_past = True
            if kind == "renaming":
                _die()

    sys.addaudithook(watch)


def _die_in_epoch(target: int) -> None:
    run_epoch = EpochRunner.run_epoch

    def run_or_die(self: EpochRunner, epoch: int) -> Iterator[list[float]]:
        for losses in run_epoch(self, epoch):
            if epoch == target:
                _die()
            yield losses

    EpochRunner.run_epoch = run_or_die  # type: ignore[method-assign]


def _exit_status(program: Callable[[Sequence[str]], object], arguments: Sequence[str]) -> int:
    try:
        program(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def main(job: dict[str, Any]) -> None:
    module, function = job["program"].split(":")
    program = getattr(importlib.import_module(module), function)
    for folder, moments in job["folders"].items():
        os.chdir(folder)
        for number, moment in enumerate([*moments, ""]):
            arguments = [*job["arguments"], *(job["resume"] if number else ())]
            print(folder, arguments, moment or "the end", file=sys.stderr, flush=True)
            child = os.fork()
            if child == 0:
                if moment:
                    _arm(moment)
                os._exit(_exit_status(program, arguments))
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if status != (-signal.SIGKILL if moment else 0):
                sys.exit(f"the exit status is {status}")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
