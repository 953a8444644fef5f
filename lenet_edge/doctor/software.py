"""Python, its packages and the runtimes: each is tried in a process of its own."""

from __future__ import annotations

import importlib.util
import platform
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from lenet_edge import worker
from lenet_edge.doctor.finding import Finding, Status
from lenet_edge.doctor.known import BOARD, explain
from lenet_edge.errors import LenetEdgeError
from lenet_edge.machine.elf import architecture, own_architecture

# What each job needs beside a runtime: package to import, and the extra that brings it.
_NEEDED = {
    "host": (
        ("tensorflow", "host"), ("tf2onnx", "host"), ("onnx", "host"), ("onnxruntime", "onnx"),
        ("litert_quantizer", "host"), ("PIL", "predict"), ("tornado", "serve"),
        ("matplotlib", "report"),
    ),
    "board": (("PIL", "predict"), ("tornado", "serve")),
}  # fmt: skip
# Without these the host's job cannot be done at all.
_ESSENTIAL = ("tensorflow", "tf2onnx", "onnx", "onnxruntime")
_COMMANDS = {"PIL": "predict and serve", "tornado": "serve", "matplotlib": "plots",
             "litert_quantizer": "tune and export --dynamic"}  # fmt: skip
_NAMES = {"PIL": "pillow"}  # where the package to install is called otherwise
_TRIAL_S = 120


def python() -> Iterator[Finding]:
    """Look at the interpreter itself."""
    bits, machine = struct.calcsize("P") * 8, platform.machine()
    found = f"{platform.python_version()}, {bits} bits, on {machine}"
    if bits == 32 and machine in ("aarch64", "x86_64"):
        yield Finding(
            "Python", "warning", found,
            "a 32-bit Python on a 64-bit kernel; most runtimes have packages for 64 bits only",
            "install the 64-bit system, or take tflite-runtime: pip install 'lenet-edge[tflite]'",
            BOARD,
        )  # fmt: skip
        return
    yield Finding("Python", "ok", found)


def packages(job: str) -> Iterator[Finding]:
    """Try to import NumPy, and what the job's commands need."""
    try:
        version = worker.call("doctor.software:version_of", _TRIAL_S, package="numpy")
        yield Finding("NumPy", "ok", version)
    except LenetEdgeError as error:
        yield _failed("NumPy", "failure", error, "pip install --force-reinstall numpy")
    for package, extra in _NEEDED[job]:
        needed, name = package in _ESSENTIAL, _NAMES.get(package, package)
        if importlib.util.find_spec(package) is None:
            yield Finding(
                name, "failure" if needed else "note", "not installed",
                f"{_COMMANDS.get(package, 'train, export and run')} cannot be used without it",
                f"pip install 'lenet-edge[{extra}]'", BOARD,
            )  # fmt: skip
            continue
        try:
            version = worker.call("doctor.software:version_of", _TRIAL_S, package=package)
            yield Finding(name, "ok", version)
        except LenetEdgeError as error:
            status: Status = "failure" if needed else "warning"
            yield _failed(name, status, error, f"pip install --force-reinstall {name}")


def version_of(package: str) -> str:
    """Import a package and return its version; called in a fresh process."""
    module = importlib.import_module(package)
    return str(getattr(module, "__version__", None) or getattr(module, "version", "installed"))


def runtimes(report: Callable[[str], None] = lambda name: None) -> Iterator[Finding]:
    """Run the probe model on every target, and say of each that does not work what is known.

    One target at least must work that runs .tflite or .onnx files.
    """
    from lenet_edge.runtimes import NOT_BY_DEFAULT, absence, all_targets
    from lenet_edge.selection import probe

    works = False
    for target in all_targets():
        if target.preference >= NOT_BY_DEFAULT:
            continue
        if reason := absence(target):  # what is not there is no fault of the machine
            what, _, fix = reason.partition("; ")
            yield Finding(target.name, "note", what, fix=fix.removeprefix("install it with: "))
            continue
        report(target.name)
        status = probe(target)
        if status.works:
            works = works or not {"keras", "native", "wasm"} & set(target.formats)
            yield Finding(target.name, "ok", status.detail)
            continue
        foreign = _foreign_library(target.package) if target.package else None
        reason = f"{foreign}; {status.detail}" if foreign else status.detail
        yield _failed(target.name, "warning", reason, "lenet-edge targets --debug says more")
    if not works:
        yield Finding(
            "runtimes", "failure", "no runtime for .tflite or .onnx files works",
            "none is installed, or what is installed fails as said above",
            "pip install 'lenet-edge[litert]', or [tflite] on 32-bit Arm, or [onnx]", BOARD,
        )  # fmt: skip


def _failed(check: str, status: Status, error: LenetEdgeError | str, otherwise: str) -> Finding:
    known = explain(str(error))
    if known is None:
        return Finding(check, status, str(error), "not a failure that is known", otherwise, BOARD)
    return Finding(check, status, str(error), known.cause, known.fix, known.see)


def _foreign_library(package: str) -> str | None:
    """Return which library of a package is for another processor than this Python, in words."""
    spec = importlib.util.find_spec(package.split(".", 1)[0])
    own = own_architecture()
    for folder in spec.submodule_search_locations or () if spec else ():
        for library in sorted(Path(folder).rglob("*.so*")):
            found = architecture(library)
            if found and own and found != own:
                return f"{library.name} is for another architecture, {found} instead of {own}"
    return None
