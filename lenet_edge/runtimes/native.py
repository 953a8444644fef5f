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
import math
import os
import re
import shlex
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.artifacts.embedded import read_contract
from lenet_edge.errors import LenetEdgeError, TargetError
from lenet_edge.machine.elf import elf_architecture, loaded_bytes
from lenet_edge.runtimes import Deployable
from lenet_edge.runtimes._batch_threads import BatchThreads, split
from lenet_edge.runtimes._buffers import BufferSession
from lenet_edge.runtimes._layer_probe import LayerProbe
from lenet_edge.runtimes._native_layers import HookedSource, HookProbe, add_hooks
from lenet_edge.support import files
from lenet_edge.support.child_program import run_program
from lenet_edge.support.temporary import temporary_folder
from lenet_edge.target import (
    Array,
    InputValues,
    Session,
    Target,
    describe_shape,
)

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
ARENA_ALIGNMENT = 64


@dataclass(frozen=True)
class Interface:
    """The functions of a C file, as the file declares them.

    Attributes:
        name: the function for one call; ``name_batch`` makes many.
        sizes: the elements of each input and each output in one call.
        arena_bytes: memory that ``name_batch_in`` gets from its caller; None without this function.
    """

    name: str
    sizes: tuple[int, ...]
    arena_bytes: int | None = None


def read_interface(content: bytes) -> Interface | None:
    """Return the functions that a C file declares, None if it is not of lenet-edge."""
    batch = re.search(rb"^void (\w+)_batch\(", content, re.MULTILINE)
    if batch is None:
        return None
    declared = re.search(rb"^void %s\((.*)\);" % batch[1], content, re.MULTILINE)
    arena = re.search(rb"^#define \w+_ARENA_BYTES (\d+)$", content, re.MULTILINE)
    if declared is None:
        return None
    sizes = tuple(map(int, re.findall(rb"\[(\d+)\]", declared[1])))
    return Interface(batch[1].decode(), sizes, int(arena[1]) if arena else None)


def read_file(
    artifact: Artifact,
) -> tuple[Interface, tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return the functions, the inputs and the outputs of a C file.

    Raises:
        TargetError: it is not a C file of lenet-edge, or contradicts itself.
    """
    # The file contains its contract, and defines a function and its batch variant.
    interface = read_interface(artifact.path.read_bytes())
    contract = json.loads(read_contract(artifact.path, "native") or "{}")
    if interface is None or not contract:
        raise TargetError(f"{artifact.name} is not a C file of lenet-edge; export it again")
    inputs, outputs = (
        tuple(TensorSpec(**facts) for facts in contract[side]) for side in ("inputs", "outputs")
    )
    if len(inputs) + len(outputs) != len(interface.sizes):
        raise TargetError(f"{artifact.name} contradicts its contract; export it again")
    return interface, inputs, outputs


def tensor_bytes(
    interface: Interface, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> list[int]:
    """Return the bytes of each input and each output of one call."""
    return [
        size * np.dtype(spec.dtype).itemsize
        for size, spec in zip(interface.sizes, (*inputs, *outputs), strict=True)
    ]


class NativeSession(BufferSession):
    """Session over the functions of a shared library.

    `build_hooked` builds the library with clock reads between the steps.

    Attributes:
        built_bytes: machine code, constants and variables of the library; None if it is no ELF.
        built_for: the architecture of the library; None if it is no ELF.
    """

    def __init__(
        self,
        library: Path,
        interface: Interface,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        runtime_version: str,
        num_threads: int = 1,
        build_hooked: Callable[[], tuple[Path, HookedSource]] | None = None,
    ) -> None:
        super().__init__()
        self._build_hooked = build_hooked
        loaded = self._library = ctypes.CDLL(str(library.resolve()))
        self._handle: int | None = loaded._handle
        self.built_bytes, self.built_for = loaded_bytes(library), elf_architecture(library)
        self._interface = interface
        name = interface.name
        self._single, self._batch = loaded[name], loaded[f"{name}_batch"]
        self._single.restype = self._batch.restype = None
        self._arenas: list[Array] = []
        if interface.arena_bytes is not None:
            # The plain functions share one static arena. Every thread has its own instead.
            self._batch = loaded[f"{name}_batch_in"]
            self._batch.restype = None
            for _ in range(num_threads):
                memory = np.zeros(interface.arena_bytes + ARENA_ALIGNMENT, np.uint8)
                self._arenas.append(memory[-memory.ctypes.data % ARENA_ALIGNMENT :])
        # The arguments that follow those of the batch: the arena of the thread that calls.
        self._own = [(ctypes.c_void_p(arena.ctypes.data),) for arena in self._arenas]
        self._threads = BatchThreads(self._own or [()] * num_threads) if num_threads > 1 else None
        self.input_specs, self.output_specs = inputs, outputs
        self.runtime_version = runtime_version

    def _bind(self, arrays: list[Array]) -> None:
        """Create the buffers and the call for arrays of these shapes."""
        self._outputs = bind_outputs(self._interface, arrays, self.output_specs)
        self._inputs = [np.zeros(array.shape, array.dtype) for array in arrays]
        count = arrays[0].size // self._interface.sizes[0]
        # The arguments are created once, so that `infer` is one bare call.
        buffers = self._inputs + self._outputs
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in buffers]
        call: Callable[[], object]
        if self._threads is not None and count > 1:
            parts = [self._part(buffers, part) for part in split(count, self._threads.count)]
            call = functools.partial(self._threads.run, parts)
        elif self._own:
            call = functools.partial(self._part(buffers, range(count)), *self._own[0])
        elif count == 1:
            call = functools.partial(self._single, *pointers)
        else:
            call = self._part(buffers, range(count))
        vars(self)["infer"] = call

    def _part(self, buffers: list[Array], part: range) -> Callable[..., object]:
        """Return the call that computes a part of the batch."""
        pointers = [
            ctypes.c_void_p(buffer.ctypes.data + part.start * size * buffer.itemsize)
            for buffer, size in zip(buffers, self._interface.sizes, strict=True)
        ]
        return functools.partial(self._batch, *pointers, ctypes.c_size_t(len(part)))

    def infer(self) -> None:
        """Run the network. `prepare` replaces this method by the bare call."""
        raise TargetError("the session is closed or has no images; call prepare first")

    def layer_probes(self, values: InputValues) -> Iterator[LayerProbe]:
        """Yield the probe of a library with clock reads between the steps."""
        if self._threads is not None:
            raise TargetError("the layers of a C file are timed on one thread; use --num-threads 1")
        if self._build_hooked is None:
            raise TargetError("a C file has no clock reads unless a compiler is here; install gcc")
        library, hooked = self._build_hooked()
        session = NativeSession(
            library, self._interface, self.input_specs, self.output_specs, self.runtime_version
        )
        session.prepare(values)
        images = session._inputs[0].size // self._interface.sizes[0]
        none = functools.partial(
            session._part(session._inputs + session._outputs, range(0)),
            *(session._own[0] if session._own else ()),
        )
        yield HookProbe(hooked.steps, session._library, session.infer, none, images, session.close)

    def close(self) -> None:
        """End the threads and unload the library."""
        if self._handle is not None:
            if self._threads is not None:
                self._threads.close()
            vars(self).pop("infer", None)
            del self._single, self._batch, self._library
            _ctypes.dlclose(self._handle)
            self._handle = None


def bind_outputs(
    interface: Interface, arrays: list[Array], specs: tuple[TensorSpec, ...]
) -> list[Array]:
    """Return a buffer for each output of a batch.

    Args:
        interface: the functions of the C file.
        arrays: the inputs of the batch.
        specs: the outputs.

    Raises:
        TargetError: the inputs have different batch sizes.
    """
    sizes = interface.sizes
    count = arrays[0].size // sizes[0]
    if any(array.size != count * size for array, size in zip(arrays, sizes, strict=False)):
        raise TargetError(
            f"the inputs have the shapes {', '.join(describe_shape(a.shape) for a in arrays)},"
            " which are not of one batch size"
        )
    return [
        np.zeros(_shape(spec, count * size), spec.dtype)
        for spec, size in zip(specs, sizes[len(arrays) :], strict=True)
    ]


def _shape(spec: TensorSpec, size: int) -> tuple[int, ...]:
    """Return the shape of an output of `size` elements, whose first axis is the batch."""
    rest = tuple(each or 1 for each in spec.shape[1:])
    return (size // math.prod(rest), *rest) if spec.shape else ()


def absence(target: Target) -> str | None:
    """Return the reason if there is no C compiler, or None."""
    try:
        find_compiler()
    except TargetError as error:
        return str(error)
    return None


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Build a .c file of `export --format native`, or load the library built earlier."""
    content = artifact.path.read_bytes()
    interface, inputs, outputs = read_file(artifact)
    built = built_beside(artifact.path.resolve(), content, os.uname().machine)
    if _is_of_this_bundle(built):
        return NativeSession(built, interface, inputs, outputs, "built elsewhere", num_threads)
    try:
        compiler = find_compiler()
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

    def build_hooked() -> tuple[Path, HookedSource]:
        hooked = add_hooks(content, artifact.name)
        return _build(hooked.content, artifact.name, compiler, version_line), hooked

    return NativeSession(library, interface, inputs, outputs, described, num_threads, build_hooked)


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
