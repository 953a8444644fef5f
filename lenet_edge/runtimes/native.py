"""Networks as C files (``export --format native``), built with this machine's compiler."""

from __future__ import annotations

import _ctypes
import ctypes
import functools
import hashlib
import json
import math
import platform
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.artifacts.embedded import read_contract
from lenet_edge.errors import TargetError
from lenet_edge.machine.elf import elf_architecture, loaded_bytes
from lenet_edge.runtimes import Deployable
from lenet_edge.runtimes._batch_threads import BatchThreads, split
from lenet_edge.runtimes._buffers import BufferSession
from lenet_edge.runtimes._layer_probe import LayerProbe, LayerStep
from lenet_edge.runtimes._native_build import build_library, find_compiler, read_version
from lenet_edge.runtimes._native_layers import HookProbe, add_hooks
from lenet_edge.support import files
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

    `build_hooked` builds the library with clock reads between the steps, and returns its steps.

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
        build_hooked: Callable[[], tuple[Path, tuple[LayerStep, ...]]] | None = None,
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
        library, steps = self._build_hooked()
        session = NativeSession(
            library, self._interface, self.input_specs, self.output_specs, self.runtime_version
        )
        session.prepare(values)
        images = session._inputs[0].size // self._interface.sizes[0]
        none = functools.partial(
            session._part(session._inputs + session._outputs, range(0)),
            *(session._own[0] if session._own else ()),
        )
        yield HookProbe(steps, session._library, session.infer, none, images, session.close)

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
    built = built_beside(artifact.path.resolve(), content, platform.machine())
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
    version_line = read_version(compiler)
    library = build_library(content, artifact.name, compiler, version_line)
    version = re.search(r"\d+(\.\d+)+", version_line)
    described = f"{version[0] if version else '?'} {Path(compiler[0]).name}"

    def build_hooked() -> tuple[Path, tuple[LayerStep, ...]]:
        hooked = add_hooks(content, artifact.name)
        library = build_library(hooked.content, artifact.name, compiler, version_line)
        return library, hooked.steps

    return NativeSession(library, interface, inputs, outputs, described, num_threads, build_hooked)


def built_beside(path: Path, content: bytes, machine: str) -> Path:
    """Return the path beside a C file of the library that was built from it for another machine.

    `_native_build.build_for` makes this library for a board without a compiler.

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
