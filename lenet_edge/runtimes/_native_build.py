"""Shared libraries of C files, built with a C compiler and kept in the user's cache folder.

The name of a library has the hash of source, compiler and flags, and the hash of its content.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
from pathlib import Path

from lenet_edge.errors import LenetEdgeError, TargetError
from lenet_edge.support import files, portable
from lenet_edge.support.child_program import run_program
from lenet_edge.support.temporary import temporary_folder

# The flags that each file names at its top. It selects the instruction set at run time: no -march.
FLAGS = ("-O3", "-ffp-contract=fast", "-fPIC", "-shared")
_CROSS_COMPILERS = {  # Debian packages: gcc-aarch64-linux-gnu, gcc-arm-linux-gnueabihf
    "aarch64": ("aarch64-linux-gnu-gcc",),
    "armv7l": ("arm-linux-gnueabihf-gcc", "-mfpu=neon"),
}
_TIMEOUT_S = 300


def find_compiler() -> list[str]:
    """Return the C compiler of this machine, and its first arguments: CC, or else cc.

    Raises:
        TargetError: there is no C compiler.
    """
    command = shlex.split(os.environ.get("CC", "cc"))
    program = shutil.which(command[0]) if command else None
    if program is None:
        raise TargetError(
            f"there is no C compiler ({' '.join(command) or 'CC is empty'}); install one (Debian:"
            " apt install gcc), or set CC"
        )
    return [os.path.abspath(program), *command[1:]]


def build_library(content: bytes, name: str, compiler: list[str], version_line: str) -> Path:
    """Return the path of the shared library of a C file, built if it is not in the cache.

    Raises:
        TargetError: the compiler fails, or the cache folder is not private.
    """
    machine = platform.machine()
    build = "\0".join([*compiler, version_line, machine, *FLAGS, ""]).encode()
    folder, key = _cache_folder(), hashlib.sha256(build + content).hexdigest()[:32]
    for library in folder.glob(f"{key}-*.so"):
        cached = _read_own_file(library)
        if cached is not None and library == _cached_library(folder, key, cached):
            return library
        library.unlink(missing_ok=True)  # damaged, or written by another account
    try:
        built = _compile(compiler, content, name)
    except TargetError as error:
        raise TargetError(f"{name} cannot be built: {error}") from error
    library = _cached_library(folder, key, built)
    with files.atomic_write(library) as temporary:
        temporary.chmod(0o600)
        temporary.write_bytes(built)
    return library


def read_version(compiler: list[str]) -> str:
    """Return the first line that a compiler prints about its version."""
    return _run([*compiler, "--version"]).partition("\n")[0]


def _cached_library(folder: Path, key: str, built: bytes) -> Path:
    return folder / f"{key}-{hashlib.sha256(built).hexdigest()[:32]}.so"


def _cache_folder() -> Path:
    try:
        return files.private_cache_folder("native")
    except LenetEdgeError as error:
        raise TargetError(str(error)) from error


def _read_own_file(path: Path) -> bytes | None:
    """Return the content of a file; None if another account could have written it."""
    try:
        # A FIFO would block without O_NONBLOCK.
        descriptor = os.open(
            path, os.O_RDONLY | portable.NOFOLLOW | portable.NONBLOCK | portable.CLOEXEC
        )
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        is_own = stat.S_ISREG(status.st_mode) and status.st_uid == portable.user_id()
        return file.read() if is_own and not files.is_writable_by_others(status) else None


def _compile(compiler: list[str], content: bytes, name: str) -> bytes:
    """Return the shared library of a C file."""
    with temporary_folder() as folder:
        (folder / name).write_bytes(content)
        _run([*compiler, *FLAGS, f"./{name}", "-o", "built.so"], folder)
        return (folder / "built.so").read_bytes()


def _run(command: list[str], folder: Path | None = None) -> str:
    """Run a compiler: in a scratch folder, or without one for its version alone."""
    try:
        done = (
            run_program(command, folder, _TIMEOUT_S)
            if folder
            else subprocess.run(command, capture_output=True, text=True, errors="replace",
                                timeout=_TIMEOUT_S, check=False)
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TargetError(f"{Path(command[0]).name} cannot be run: {error}") from error
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line] or [""]
        raise TargetError(f"{Path(command[0]).name} reports: {' '.join(errors[0].split())[:200]}")
    return done.stdout


def build_for(machine: str, content: bytes, name: str) -> bytes | None:
    """Return a shared library for another machine, or None without a cross compiler for it."""
    compiler = _CROSS_COMPILERS.get(machine, ("",))
    if shutil.which(compiler[0]) is None:
        return None
    return _compile([str(shutil.which(compiler[0])), *compiler[1:]], content, name)
