"""Instructions and memory on a Cortex-M core, in QEMU.

The total comes from QEMU's instruction counter (-icount). The plugin divides it among the layers,
if this machine can build the plugin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.bench.instructions import emulated
from lenet_edge.bench.instructions.layers import REST
from lenet_edge.bench.instructions.tools import read_version
from lenet_edge.errors import TargetError
from lenet_edge.microcontrollers import emulator
from lenet_edge.microcontrollers.cores import Core
from lenet_edge.microcontrollers.program import BareMetalProgram
from lenet_edge.microcontrollers.toolchain import FLAGS
from lenet_edge.results.instruction_count import InstructionCount
from lenet_edge.runtimes.cortex_m import build_file
from lenet_edge.runtimes.native import read_file
from lenet_edge.target import Array

_BINUTILS = "arm-none-eabi-"
_THUMB = 2  # the alignment of instructions in bytes
_TIMEOUT_S = 600.0


def count(
    artifact: Artifact,
    core: Core,
    calls: Sequence[Sequence[Array]],
    folder: Path,
    note: Callable[[str], None],
) -> InstructionCount:
    """Build a bare-metal program of a C file, and run it on an emulated board.

    Args:
        artifact: a C file of lenet-edge.
        core: the core.
        calls: the arrays of each call, one for each input.
        folder: a scratch folder.
        note: called with a line of text if the layers cannot be told apart.

    Raises:
        TargetError: a program is missing or fails, or the network needs too much memory.
    """
    qemu_version = read_version(emulator.find_emulator(), folder)
    interface, inputs, outputs = read_file(artifact)
    # Debugging information does not change the code.
    flags = (*FLAGS, "-g")
    built = build_file(artifact, interface, inputs, outputs, core, folder, flags)
    tensors = [np.stack(arrays) for arrays in zip(*calls, strict=True)]
    blocks = np.frombuffer(built.inputs.pack(tensors, len(calls)), np.uint8)
    blocks = blocks.reshape(len(calls), built.inputs.num_bytes)
    run = emulator.run(built, blocks, folder, _TIMEOUT_S)
    try:
        sums = _count_layers(built, interface.name, blocks, folder, qemu_version)
        layers = {name: each / len(calls) for name, each in sums.items() if name != REST}
    except TargetError as error:
        note(f"{artifact.name} on {core.name} has no instructions per layer: {error}")
        layers = None
    network = built.network
    return InstructionCount(
        artifact=artifact.name,
        artifact_sha256=artifact.sha256,
        target=core.name,
        cpu=core.name,
        instructions=float(run.instructions.mean()),
        images=len(calls),
        compiler=built.compiler,
        flags=tuple(flag for flag in built.flags if flag != "-g"),
        counter=qemu_version,
        layers=layers,
        flash_bytes={
            "code": network.code,
            "constants": network.constants,
            "initialized variables": network.initialized,
        },
        ram_bytes=network.ram,
        stack_bytes=run.stack_bytes,
    )


def _count_layers(
    built: BareMetalProgram, function: str, blocks: Array, folder: Path, qemu_version: str
) -> dict[str, int]:
    """Return the instructions of all calls of each layer."""
    plugin = emulated.build_plugin(qemu_version, folder)
    source, callers = folder / "network.c", ("main", "call_network")
    names = emulated.write_map(built.path, source, function, _BINUTILS, _THUMB, folder, callers)
    sums = []
    for part in (blocks, blocks[:0]):  # the program also calls the network before its first input
        (folder / "totals").unlink(missing_ok=True)
        options = emulated.plugin_options(plugin, folder)
        emulator.run(built, part, folder, _TIMEOUT_S, options)
        sums.append(emulated.read_totals(folder, names))
    return emulated.difference(*sums)
