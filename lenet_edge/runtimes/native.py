"""Networks as C files (``export --format native``), built with this machine's compiler.

The library is kept in the user's cache folder. Its name has the hash of source, compiler and flags,
and the hash of its content.
"""

from __future__ import annotations

import _ctypes
import ctypes
import functools
import hashlib
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.artifacts.embedded import read_contract
from lenet_edge.errors import LenetEdgeError, TargetError
from lenet_edge.runtimes import Deployable
from lenet_edge.support import files
from lenet_edge.support.child_program import run_program
from lenet_edge.support.temporary import temporary_folder
from lenet_edge.target import Array, InputValues, Session, Target, TensorSession, check_sizes

TARGETS = (
    Target(
        name="native-cpu",
        runtime="native",
        formats=("native",),
        device="cpu",
        delegate=None,
        package="",
        extra="",
        preference=10,
    ),
)
DEPLOYABLE = Deployable("native", "native-cpu", distribution=None, rank=4)
# The flags that each file names at its top. It selects the instruction set at run time: no -march.
FLAGS = ("-O3", "-ffp-contract=fast", "-fPIC", "-shared")
_CROSS_COMPILERS = {  # Debian packages: gcc-aarch64-linux-gnu, gcc-arm-linux-gnueabihf
    "aarch64": ("aarch64-linux-gnu-gcc",),
    "armv7l": ("arm-linux-gnueabihf-gcc", "-mfpu=neon"),
}
_TIMEOUT_S = 300


class NativeSession(TensorSession):
    """Session over the two functions of a shared library."""

    def __init__(
        self, library: Path, name: str, specs: tuple[TensorSpec, TensorSpec], runtime_version: str
    ) -> None:
        loaded = ctypes.CDLL(str(library.resolve()))
        self._handle: int | None = loaded._handle
        self._single, self._batch = loaded[name], loaded[f"{name}_batch"]
        self._single.restype = self._batch.restype = None
        self.input_specs, self.output_specs = specs[:1], specs[1:]
        self.runtime_version = runtime_version
        self._images: Any = np.empty((0,), np.float32)

    def prepare(self, values: InputValues) -> None:
        """Copy the images into the input buffer, quantized if the file takes integers."""
        (images,) = self.arrays(values)
        if images.shape != self._images.shape:
            check_sizes(self.input_specs, [images], free_batch=True)
            self._bind(images)
        np.copyto(self._images, images)

    def _bind(self, images: Array) -> None:
        image, logits = self.input_specs[0], self.output_specs[0]
        self._images = np.zeros(images.shape, image.dtype)
        self._logits = np.zeros((len(images), logits.shape[-1] or 1), logits.dtype)
        # The arguments are created once, so that `infer` is one bare call.
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (self._images, self._logits)]
        vars(self)["infer"] = (
            functools.partial(self._single, *pointers)
            if len(images) == 1
            else functools.partial(self._batch, *pointers, ctypes.c_size_t(len(images)))
        )

    def infer(self) -> None:
        """Run the network. `prepare` replaces this method by the bare call."""
        raise TargetError("the session is closed or has no images; call prepare first")

    def outputs(self) -> dict[str, Array]:
        """Return a copy of the logits."""
        return {self.output_specs[0].name: self._logits.copy()}

    def close(self) -> None:
        """Unload the library."""
        if self._handle is not None:
            vars(self).pop("infer", None)
            del self._single, self._batch
            _ctypes.dlclose(self._handle)
            self._handle = None


def absence(target: Target) -> str | None:
    """Return the reason if there is no C compiler, or None."""
    try:
        _compiler()
    except TargetError as error:
        return str(error)
    return None


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Build a .c file of `export --format native`, or load the library built earlier."""
    if num_threads != 1:
        raise TargetError(f"{target.name} runs on one thread, not {num_threads}")
    content = artifact.path.read_bytes()
    # The file contains its contract, and defines a function and its batch variant.
    contract = json.loads(read_contract(artifact.path, "native") or "{}")
    name = re.search(rb"^void (\w+)_batch\(", content, re.MULTILINE)
    if name is None or not contract:
        raise TargetError(f"{artifact.name} is not a C file of lenet-edge; export it again")
    specs = (TensorSpec(**contract["inputs"][0]), TensorSpec(**contract["outputs"][0]))
    built = built_beside(artifact.path.resolve(), content, os.uname().machine)
    if _is_of_this_bundle(built):
        return NativeSession(built, name[1].decode(), specs, "built elsewhere")
    try:
        compiler = _compiler()
    except TargetError as error:
        if built.exists():
            raise TargetError(
                f"{built.name} is not loaded, because only a bundle proves that it was built from"
                f" {artifact.name}, and {error}"
            ) from None
        raise
    version_line = _run([*compiler, "--version"]).partition("\n")[0]
    library = _build(content, artifact.name, compiler, version_line)
    version = re.search(r"\d+(\.\d+)+", version_line)
    described = f"{version[0] if version else '?'} {Path(compiler[0]).name}"
    return NativeSession(library, name[1].decode(), specs, described)


def built_beside(path: Path, content: bytes, machine: str) -> Path:
    """Return the path beside a C file of the library that was built from it for another machine.

    `build_for` makes this library for a board without a compiler.

    Args:
        path: the C file.
        content: its content.
        machine: the name of the machine, as uname prints it.
    """
    return path.with_name(f"{path.stem}-{hashlib.sha256(content).hexdigest()[:12]}-{machine}.so")


def _is_of_this_bundle(library: Path) -> bool:
    """Return whether a library came with the code that is running, as `bundle.json` states.

    A library of anybody else would be run without proof that it was built from the C file.
    """
    root = Path(__file__).resolve().parents[2]
    try:
        facts = json.loads((root / "bundle.json").read_text(encoding="utf-8"))
        sha256 = facts["files"][library.relative_to(root).as_posix()]
        return bool(files.sha256_of(library) == sha256)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def build_for(machine: str, content: bytes, name: str) -> bytes | None:
    """Return a shared library for another machine, or None without a cross compiler for it."""
    compiler = _CROSS_COMPILERS.get(machine, ("",))
    if shutil.which(compiler[0]) is None:
        return None
    return _compile([str(shutil.which(compiler[0])), *compiler[1:]], content, name)


def _compiler() -> list[str]:
    command = shlex.split(os.environ.get("CC", "cc"))
    program = shutil.which(command[0]) if command else None
    if program is None:
        raise TargetError(
            f"there is no C compiler ({' '.join(command) or 'CC is empty'}); install one (Debian:"
            " apt install gcc), or set CC"
        )
    return [os.path.abspath(program), *command[1:]]


def _build(content: bytes, name: str, compiler: list[str], version_line: str) -> Path:
    """Return the path of the shared library of a C file, built if it is not in the cache."""
    machine = os.uname().machine
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
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        is_own = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
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
