"""All checks in their order."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from lenet_edge.doctor import machine, software
from lenet_edge.doctor.finding import Finding
from lenet_edge.machine.conditions import observe
from lenet_edge.machine.environment import capture


def usual_job() -> str:
    """Return what this machine is for: "host" where TensorFlow is installed, else "board"."""
    return "host" if find_spec("tensorflow") else "board"


def examine(
    job: str, exported: Path, report: Callable[[str], None] = lambda what: None
) -> list[Finding]:
    """Return everything that was looked at.

    Args:
        job: "host" trains and exports, "board" runs.
        exported: where the exported files lie.
        report: called with the name of what is tried next.
    """
    found = [*software.python(), *machine.speed(capture(), observe().throttled)]
    found += [*machine.room(job, Path()), *machine.devices(), *machine.files(exported)]
    report("packages")
    found += software.packages(job)
    if not any(one.check == "NumPy" and one.status == "failure" for one in found):
        found += software.runtimes(report)
    return found
