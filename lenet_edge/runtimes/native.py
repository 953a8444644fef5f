"""Networks as C files (``export --format native``), built with this machine's compiler.

The library is kept in the user's cache folder, under the hash of source, compiler and flags.
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
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.artifacts.embedded import read_contract
from lenet_edge.errors import LenetEdgeError, TargetError
from lenet_edge.runtimes import Deployable
from lenet_edge.support import files
from lenet_edge.support.temporary import temporary_folder
from lenet_edge.target import Delegation, Images, Logits, Session, Target, dequantize, quantize

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


class NativeSession:
    """Session over the two functions of a shared library."""

    delegation: Delegation | None = None

    def __init__(
        self, library: Path, name: str, specs: tuple[TensorSpec, TensorSpec], runtime_version: str
    ) -> None:
        loaded = ctypes.CDLL(str(library))
        self._handle: int | None = loaded._handle
        self._single, self._batch = loaded[name], loaded[f"{name}_batch"]
        self._single.restype = self._batch.restype = None
        self.inputs, self.outputs = specs[:1], specs[1:]
        self.runtime_version = runtime_version
        self._images: Any = np.empty((0,), np.float32)

    def prepare(self, images: Images) -> None:
        """Copy the images into the input buffer, quantized if the file takes integers."""
        if images.shape != self._images.shape:
            self._bind(images)
        np.copyto(self._images, quantize(images, self.inputs[0]))

    def _bind(self, images: Images) -> None:
        image, logits = self.inputs[0], self.outputs[0]
        if images.shape[1:] != image.shape[1:]:
            raise TargetError(
                f"the network takes images of shape {image.shape[1:]}, not {images.shape[1:]}"
            )
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

    def logits(self) -> Logits:
        """Return a dequantized copy of the logits."""
        return dequantize(self._logits, self.outputs[0])

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
    library = built_beside(artifact.path, content, os.uname().machine)
    if library.exists() and not files.is_writable_by_others(library.parent.stat()):
        return NativeSession(library, name[1].decode(), specs, "built elsewhere")
    compiler = _compiler()
    version_line = _run([*compiler, "--version"]).partition("\n")[0]
    library = _build(content, artifact.name, compiler, version_line)
    version = re.search(r"\d+(\.\d+)+", version_line)
    return NativeSession(
        library, name[1].decode(), specs, f"{version[0] if version else '?'} {compiler[0]}"
    )


def built_beside(path: Path, content: bytes, machine: str) -> Path:
    """Return the path beside a C file of the library that was built from it for another machine.

    `build_for` makes this library for a board without a compiler.

    Args:
        path: the C file.
        content: its content.
        machine: the name of the machine, as uname prints it.
    """
    return path.with_name(f"{path.stem}-{hashlib.sha256(content).hexdigest()[:12]}-{machine}.so")


def build_for(machine: str, content: bytes, name: str) -> bytes | None:
    """Return a shared library for another machine, or None without a cross compiler for it."""
    compiler = _CROSS_COMPILERS.get(machine, ("",))
    if shutil.which(compiler[0]) is None:
        return None
    with temporary_folder() as folder:
        source, library = folder / name, folder / "built.so"
        source.write_bytes(content)
        _run([*compiler, *FLAGS, str(source), "-o", str(library)])
        return library.read_bytes()


def _compiler() -> list[str]:
    command = shlex.split(os.environ.get("CC", "cc"))
    if not command or shutil.which(command[0]) is None:
        raise TargetError(
            f"there is no C compiler ({' '.join(command) or 'CC is empty'}); install one (Debian:"
            " apt install gcc), or set CC"
        )
    return command


def _build(content: bytes, name: str, compiler: list[str], version_line: str) -> Path:
    """Return the path of the shared library of a C file, built if it is not in the cache."""
    machine = os.uname().machine
    build = "\0".join([*compiler, version_line, machine, *FLAGS, ""]).encode()
    library = cache_folder() / f"{hashlib.sha256(build + content).hexdigest()}.so"
    if not library.exists():
        with temporary_folder() as folder:
            source, built = folder / name, folder / "built.so"
            source.write_bytes(content)
            try:
                _run([*compiler, *FLAGS, str(source), "-o", str(built)])
            except TargetError as error:
                raise TargetError(f"{name} cannot be built: {error}") from error
            with files.atomic_write(library) as temporary:
                # The linker would replace the temporary file and thereby drop its lock.
                shutil.copyfile(built, temporary)
    return library


def cache_folder() -> Path:
    """Return the user's folder of built libraries, which other users cannot write to.

    Raises:
        TargetError: the folder belongs to another user, or other users can write to it.
    """
    try:
        return files.private_cache_folder("native")
    except LenetEdgeError as error:
        raise TargetError(str(error)) from error


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TargetError(f"{command[0]} cannot be run: {error}") from error
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line] or [""]
        raise TargetError(f"{command[0]} reports: {' '.join(errors[0].split())[:200]}")
    return done.stdout
