"""Networks as C files on Cortex-M cores, which QEMU emulates.

A session builds a bare-metal program with the C file and boots it. Its results are those of a
microcontroller with this core. Its time says nothing, so `bench` counts instructions instead.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.errors import TargetError
from lenet_edge.extras import pip_command
from lenet_edge.microcontrollers.cores import CORES, Core
from lenet_edge.microcontrollers.emulator import Emulator, emulator_version, find_emulator
from lenet_edge.microcontrollers.program import (
    BareMetalProgram,
    build_program,
    describe_shortage,
)
from lenet_edge.microcontrollers.toolchain import FLAGS, find_toolchain
from lenet_edge.runtimes._buffers import BufferSession
from lenet_edge.runtimes.native import Interface, bind_outputs, read_file, tensor_bytes
from lenet_edge.support.temporary import temporary_folder
from lenet_edge.target import Array, Session, Target

TARGETS = tuple(
    Target(
        name=core.name,
        runtime="cortex-m",
        formats=("native",),
        device="mcu",
        delegate=None,
        package="",
        extra="",
        preference=100 + number,
        measures="instructions",
    )
    for number, core in enumerate(CORES.values())
)


class CortexMSession(BufferSession):
    """Session over a program in an emulator, which is booted at the first call.

    Attributes:
        program: the program, with its core, its sizes and its compiler.
    """

    def __init__(self, artifact: Artifact, core: Core) -> None:
        super().__init__()
        self._interface, self.input_specs, self.output_specs = read_file(artifact)
        self._resources = contextlib.ExitStack()
        self._emulator: Emulator | None = None
        try:
            folder = self._resources.enter_context(temporary_folder())
            self.program = build_file(
                artifact, self._interface, self.input_specs, self.output_specs, core, folder
            )
            version = re.findall(r"\d+(?:\.\d+)+", self.program.compiler)
            name = self.program.compiler.split()[0]
            self.runtime_version = f"{(version or ['?'])[-1]} {name}, QEMU {emulator_version()}"
        except BaseException:
            self._resources.close()
            raise

    def _bind(self, arrays: list[Array]) -> None:
        """Create the buffers for arrays of these shapes."""
        self._outputs = bind_outputs(self._interface, arrays, self.output_specs)
        self._inputs = [np.zeros(array.shape, array.dtype) for array in arrays]

    def infer(self) -> None:
        """Send the inputs to the program, and receive its outputs."""
        if not self._inputs:
            raise TargetError("the session is closed or has no images; call prepare first")
        if self._emulator is None:
            self._emulator = self._resources.enter_context(
                contextlib.closing(Emulator(self.program))
            )
        count = self._inputs[0].size // self._interface.sizes[0]
        blocks = self._emulator.call(self.program.inputs.pack(self._inputs, count), count)
        results = self.program.outputs.unpack(blocks, count)
        for buffer, values in zip(self._outputs, results, strict=True):
            np.copyto(buffer, np.frombuffer(values, buffer.dtype).reshape(buffer.shape))

    def close(self) -> None:
        """Stop the emulator, and delete the program."""
        self._inputs = []
        self._resources.close()


def build_file(
    artifact: Artifact,
    interface: Interface,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    core: Core,
    folder: Path,
    flags: Sequence[str] = FLAGS,
) -> BareMetalProgram:
    """Build the program of a C file for a core; the source is ``network.c`` in the folder.

    Args:
        artifact: the C file.
        interface: the functions of the C file, from `native.read_file`.
        inputs: the inputs of a call.
        outputs: the outputs of a call.
        core: the core to compile for.
        folder: a scratch folder.
        flags: flags of the compiler for the network.

    Raises:
        TargetError: it cannot fit in the memory, or the compiler is missing or reports an error.
    """
    content, source = artifact.path.read_bytes(), folder / "network.c"
    sizes = tensor_bytes(interface, inputs, outputs)
    _check_memory(content, interface, sum(sizes), core, artifact.name)
    source.write_bytes(content)
    try:
        return build_program(
            [source], interface.name, core, folder, sizes[: len(inputs)], sizes[len(inputs) :],
            flags=flags,
        )  # fmt: skip
    except TargetError as error:
        raise TargetError(f"{artifact.name} cannot be built: {error}") from error


def _check_memory(
    content: bytes, interface: Interface, num_tensor_bytes: int, core: Core, name: str
) -> None:
    """Check, before anything is built, that a C file can fit in the memory of a core's board.

    The weights are the least that the flash holds. The tensors are the least that the RAM holds:
    inputs, outputs, and what the comment at the top of the file states.

    Raises:
        TargetError: it cannot fit.
    """
    weights = sum(
        int(count) * np.dtype(_TYPES[kind.decode()]).itemsize
        for kind, count in re.findall(_WEIGHTS, content)
    )
    stated = re.search(rb"needs ([\d,]+) bytes of (?:stack|static memory)", content[:_TOP_BYTES])
    memory = int(stated[1].replace(b",", b"")) if stated else interface.arena_bytes or 0
    memory += num_tensor_bytes
    for region, needed, size in (
        ("flash", weights, core.flash_bytes),
        ("ram", memory, core.ram_bytes),
    ):
        if needed > size:
            raise TargetError(f"{name}: {describe_shortage(core, region, needed)}")


_TOP_BYTES = 1 << 16
_TYPES = {"float": "float32", "int8_t": "int8", "int16_t": "int16", "uint16_t": "uint16"}
_WEIGHTS = rb"const (float|int8_t|int16_t|uint16_t) \w+_weights\[(\d+)[^\]\n]*\] = "


def absence(target: Target) -> str | None:
    """Return the reason if the compiler or the emulator is missing, or None."""
    missing = []
    for find in (find_toolchain, find_emulator):
        try:
            find()
        except TargetError as error:
            missing.append(str(error).partition(";")[0])
    if not missing:
        return None
    return (
        f"{' and '.join(missing)}; apt install gcc-arm-none-eabi libnewlib-arm-none-eabi"
        f" qemu-system-arm, or {pip_command('ziglang')} for the compiler"
    )


def refusal(artifact: Artifact, release: str | None) -> str | None:
    """Return why a .tflite file does not run here, which users of a microcontroller may expect."""
    if artifact.format != "tflite":
        return None
    return (
        "no package of Python or Debian has TensorFlow Lite Micro's library for this core;"
        " translate the file to C with: lenet-edge export FILE.tflite --format native"
    )


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Build a program with a .c file for the core of the target."""
    if num_threads != 1:
        raise TargetError(f"{target.name} runs on one thread, not {num_threads}")
    reason = absence(target)
    if reason:
        raise TargetError(reason)
    return CortexMSession(artifact, CORES[target.name])
