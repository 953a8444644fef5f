"""Checks of the software: Python, its packages and the runtimes, tried in other processes."""

from __future__ import annotations

import contextlib
import importlib.util
import platform
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from lenet_edge import worker
from lenet_edge.doctor.failures import BOARD, find_failure
from lenet_edge.doctor.finding import Finding, Severity
from lenet_edge.errors import LenetEdgeError
from lenet_edge.extras import install_command, pip_command
from lenet_edge.formats import BY_NAME
from lenet_edge.machine.elf import elf_architecture, python_architecture
from lenet_edge.support.safe_import import outside_of_the_current_folder

# The packages that each job needs besides a runtime, and the extras that install them.
_NEEDED = {
    "host": (
        ("tensorflow", "host"), ("tf2onnx", "host"), ("onnx", "host"), ("onnxruntime", "onnx"),
        ("litert_quantizer", "host"), ("PIL", "predict"), ("tornado", "serve"),
        ("matplotlib", "report"),
    ),
    "board": (("PIL", "predict"), ("tornado", "serve")),
}  # fmt: skip
# Packages without which a host cannot do its job.
_ESSENTIAL = ("tensorflow", "tf2onnx", "onnx", "onnxruntime")
_COMMANDS = {"PIL": "predict and serve", "tornado": "serve", "matplotlib": "plots",
             "litert_quantizer": "tune and export --dynamic"}  # fmt: skip
_PROJECTS = {"PIL": "pillow"}  # packages whose name in the package index differs
_TIMEOUT_S = 120


def check_python() -> Iterator[Finding]:
    """Check the version and the architecture of the interpreter."""
    bits, machine = struct.calcsize("P") * 8, platform.machine()
    description = f"{platform.python_version()}, {bits} bits, on {machine}"
    if bits == 32 and machine in ("aarch64", "x86_64"):
        yield Finding(
            "Python", "warning", description,
            "a 32-bit Python on a 64-bit kernel; most runtimes have packages for 64 bits only",
            f"install the 64-bit system, or use tflite-runtime: {install_command('tflite')}",
            BOARD,
        )  # fmt: skip
        return
    yield Finding("Python", "ok", description)


def check_packages(job: str) -> Iterator[Finding]:
    """Check that NumPy and the packages of a job can be imported.

    They share a process, because several of them import TensorFlow.
    """
    with contextlib.closing(worker.LastingWorker()) as process:
        try:
            yield Finding("NumPy", "ok", _import("numpy", process))
        except LenetEdgeError as error:
            fix = pip_command("--force-reinstall numpy", "--reinstall python3-numpy")
            yield _describe_failure("NumPy", "failure", error, fix)
        for package, extra in _NEEDED[job]:
            yield _check_package(package, extra, process)


def _check_package(package: str, extra: str, process: worker.LastingWorker) -> Finding:
    is_essential, name = package in _ESSENTIAL, _PROJECTS.get(package, package)
    if importlib.util.find_spec(package) is None:
        return Finding(
            name, "failure" if is_essential else "note", "not installed",
            f"{_COMMANDS.get(package, 'train, export and run')} cannot be used without it",
            install_command(extra), BOARD,
        )  # fmt: skip
    try:
        return Finding(name, "ok", _import(package, process))
    except LenetEdgeError as error:
        severity: Severity = "failure" if is_essential else "warning"
        default_fix = pip_command(f"--force-reinstall {name}")
        return _describe_failure(name, severity, error, default_fix)


def _import(package: str, process: worker.LastingWorker) -> str:
    """Return the version of a package that can be imported.

    Raises:
        LenetEdgeError: it cannot, also not alone: a package before it may be the cause.
    """
    call = version_of.bind(package).within(_TIMEOUT_S)
    try:
        return process.run(call)
    except LenetEdgeError:
        return worker.run(call)


@worker.function
def version_of(package: str) -> str:
    """Import a package and return its version."""
    with outside_of_the_current_folder():
        module = importlib.import_module(package)
    return str(getattr(module, "__version__", None) or getattr(module, "version", "installed"))


def check_runtimes(report: Callable[[str], None] = lambda name: None) -> Iterator[Finding]:
    """Run the probe model on every target, and report causes and fixes of failures.

    At least one target that reads .tflite or .onnx files must work.
    """
    from lenet_edge.runtimes import NOT_BY_DEFAULT, absence, all_targets
    from lenet_edge.selection import probe_target

    has_working_target = False
    for target in all_targets():
        if target.preference >= NOT_BY_DEFAULT:
            continue
        if reason := absence(target):  # a runtime that is not installed is not a fault
            state, _, fix = reason.partition("; ")
            yield Finding(target.name, "note", state, fix=fix.removeprefix("install it with: "))
            continue
        report(target.name)
        status = probe_target(target)
        if status.works:
            runs_models = any(BY_NAME[name].role == "model" for name in target.formats)
            has_working_target = has_working_target or runs_models
            yield Finding(target.name, "ok", status.detail)
            continue
        mismatch = _find_foreign_library(target.package) if target.package else None
        reason = f"{mismatch}; {status.detail}" if mismatch else status.detail
        default_fix = "for details: lenet-edge targets --debug"
        yield _describe_failure(target.name, "warning", reason, default_fix)
    if not has_working_target:
        yield Finding(
            "runtimes", "failure", "no runtime for .tflite or .onnx files works",
            "none is installed, or the installed runtimes fail as described above",
            f"{install_command('litert')}, or onnxruntime, or on 32-bit Arm tflite-runtime", BOARD,
        )  # fmt: skip


def check_cores(report: Callable[[str], None] = lambda name: None) -> Iterator[Finding]:
    """Run the probe model on one emulated microcontroller, which stands for all of them."""
    from lenet_edge.runtimes import absence, all_targets
    from lenet_edge.selection import probe_target

    cores = [target for target in all_targets() if target.measures == "instructions"]
    reason = absence(cores[0])
    if reason:
        state, _, fix = reason.partition("; ")
        yield Finding("cortex-m", "note", state, "C files cannot be verified there", fix)
        return
    report("cortex-m")
    status = probe_target(cores[0])
    if status.works:
        yield Finding("cortex-m", "ok", status.detail)
    else:
        default_fix = "for details: lenet-edge targets --debug"
        yield _describe_failure("cortex-m", "warning", status.detail, default_fix)


def _describe_failure(
    check: str, severity: Severity, error: LenetEdgeError | str, default_fix: str
) -> Finding:
    """Return a finding with the cause and the fix of a known failure, or with `default_fix`."""
    failure = find_failure(str(error))
    if failure is None:
        return Finding(check, severity, str(error), "unknown failure", default_fix, BOARD)
    return Finding(check, severity, str(error), failure.cause, failure.fix, failure.see)


def _find_foreign_library(package: str) -> str | None:
    """Describe the first library of a package that is not for the architecture of this Python."""
    spec = importlib.util.find_spec(package.split(".", 1)[0])
    expected = python_architecture()
    for folder in spec.submodule_search_locations or () if spec else ():
        for library in sorted(Path(folder).rglob("*.so*")):
            actual = elf_architecture(library)
            if actual and expected and actual != expected:
                return f"{library.name} is for another architecture, {actual} instead of {expected}"
    return None
