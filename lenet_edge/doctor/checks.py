"""All checks of the doctor, in the order of its output."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from lenet_edge.doctor import machine, software
from lenet_edge.doctor.finding import Finding
from lenet_edge.machine.conditions import read_conditions
from lenet_edge.machine.environment import read_environment


def default_job() -> str:
    """Return the job of this machine: "host" if TensorFlow is installed, otherwise "board"."""
    return "host" if find_spec("tensorflow") else "board"


def run_checks(
    job: str, exported: Path, report: Callable[[str], None] = lambda name: None
) -> list[Finding]:
    """Run all checks and return their findings.

    Args:
        job: "host" for training and exporting, "board" for running models.
        exported: the folder of the exported files.
        report: called with the name of each slow check before it starts.
    """
    findings = [
        *software.check_python(),
        *machine.check_speed(read_environment(), read_conditions().throttled),
        *machine.check_memory_and_folder(job, Path()),
        *machine.check_devices(),
        *machine.check_exported_files(exported),
    ]
    report("packages")
    findings += software.check_packages(job)
    if not any(f.check == "NumPy" and f.status == "failure" for f in findings):
        findings += software.check_runtimes(report)
        if job == "host":
            findings += software.check_cores(report)
    return findings
