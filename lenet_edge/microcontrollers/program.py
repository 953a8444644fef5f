"""Programs for the emulator: a network in C, linked with start.c and runner.c."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.errors import TargetError
from lenet_edge.microcontrollers.cores import Core
from lenet_edge.microcontrollers.elf import Sizes, read_sizes
from lenet_edge.microcontrollers.toolchain import (
    FLAGS,
    FOLDER,
    MemoryOverflowError,
    find_toolchain,
)

_ALIGNMENT = 16  # of each tensor in a block


@dataclass(frozen=True)
class CallLayout:
    """The layout of the tensors of one call, which are one block of bytes.

    Attributes:
        sizes: the bytes of each tensor.
    """

    sizes: tuple[int, ...]

    @property
    def offsets(self) -> tuple[int, ...]:
        """The place of each tensor in the block, aligned."""
        offsets, end = [], 0
        for size in self.sizes:
            offsets.append(-(-end // _ALIGNMENT) * _ALIGNMENT)
            end = offsets[-1] + size
        return tuple(offsets)

    @property
    def num_bytes(self) -> int:
        """The size of the block."""
        return self.offsets[-1] + self.sizes[-1] if self.sizes else 0

    def pack(self, tensors: Sequence[npt.NDArray[Any]], count: int) -> bytes:
        """Return the blocks of calls.

        Args:
            tensors: for each tensor, an array of its values in all calls.
            count: the number of calls.
        """
        blocks = np.zeros((count, self.num_bytes), np.uint8)
        for offset, size, tensor in zip(self.offsets, self.sizes, tensors, strict=True):
            values = np.frombuffer(np.ascontiguousarray(tensor).tobytes(), np.uint8)
            blocks[:, offset : offset + size] = values.reshape(count, size)
        return blocks.tobytes()

    def unpack(self, blocks: bytes, count: int) -> list[bytes]:
        """Return the bytes of each tensor for all calls."""
        table = np.frombuffer(blocks, np.uint8).reshape(count, self.num_bytes)
        return [
            table[:, offset : offset + size].tobytes()
            for offset, size in zip(self.offsets, self.sizes, strict=True)
        ]


@dataclass(frozen=True)
class BareMetalProgram:
    """A linked program.

    Attributes:
        path: the ELF file.
        core: the core it was compiled for.
        inputs, outputs: the layouts of the tensors of a call.
        network: the sizes of the network's object files.
        linked: the sizes of the program: the network, the library, and the program around them.
        compiler: the version of the compiler.
        flags: the flags that the network was compiled with.
    """

    path: Path
    core: Core
    inputs: CallLayout
    outputs: CallLayout
    network: Sizes
    linked: Sizes
    compiler: str
    flags: tuple[str, ...]


def build_program(
    sources: Sequence[Path],
    function: str,
    core: Core,
    folder: Path,
    inputs: Sequence[int],
    outputs: Sequence[int],
    flags: Sequence[str] = FLAGS,
) -> BareMetalProgram:
    """Compile a network for a core, and link it with the program around it.

    Args:
        sources: the C files of the network.
        function: the name of its function, which takes a pointer to each input and each output.
        core: the core to compile for.
        folder: a folder for the files that are built.
        inputs: the bytes of each input of a call.
        outputs: the bytes of each output.
        flags: flags of the compiler for the network.

    Raises:
        TargetError: there is no compiler, or it reports an error.
    """
    toolchain = find_toolchain()
    folder = folder.resolve()
    common = toolchain.compile_flags(core)
    objects = [folder / f"{core.name}_{source.stem}.o" for source in sources]
    for source, object_file in zip(sources, objects, strict=True):
        toolchain.run([*common, *flags, "-c", source.resolve(), "-o", object_file], folder)
    input_layout, output_layout = CallLayout(tuple(inputs)), CallLayout(tuple(outputs))
    header = _network_header(function, input_layout, output_layout)
    (folder / "network.h").write_text(header, encoding="utf-8")
    (folder / "link.ld").write_text(_link_script(core), encoding="utf-8")
    program = folder / f"{core.name}.elf"
    try:
        toolchain.run(
            [*common, "-O2", "-I", folder, FOLDER / "start.c", FOLDER / "runner.c", *objects,
             *toolchain.link_flags, "-T", folder / "link.ld", "-o", program], folder,
        )  # fmt: skip
    except MemoryOverflowError as error:
        size = core.flash_bytes if error.region == "flash" else core.ram_bytes
        raise TargetError(describe_shortage(core, error.region, size + error.excess)) from None
    return BareMetalProgram(
        program, core, input_layout, output_layout, read_sizes(*objects), read_sizes(program),
        toolchain.version, (*toolchain.core_flags(core), *flags),
    )  # fmt: skip


def describe_shortage(core: Core, region: str, needed: int) -> str:
    """Return one line about a program that is too large for the flash or the RAM of a board."""
    name, size = ("flash", core.flash_bytes) if region == "flash" else ("RAM", core.ram_bytes)
    return (
        f"the program needs at least {needed:,} bytes of {name}, and the emulated board of"
        f" {core.name} ({core.board}) has {size:,}; use an int8 file, or a larger core"
    )


def _link_script(core: Core) -> str:
    """Return the linker script for the memory of a core's board."""
    script = (FOLDER / "link.ld").read_text(encoding="utf-8")
    for name in ("flash", "flash_bytes", "ram", "ram_bytes"):
        script = script.replace(f"@{name.upper()}@", f"{getattr(core, name):#x}")
    return script


def _network_header(function: str, inputs: CallLayout, outputs: CallLayout) -> str:
    """Return the text of network.h, which runner.c includes."""
    kinds = ["const void *"] * len(inputs.sizes) + ["void *"] * len(outputs.sizes)
    arguments = [f"in + {offset}" for offset in inputs.offsets]
    arguments += [f"out + {offset}" for offset in outputs.offsets]
    return (
        f"#define INPUT_BYTES {inputs.num_bytes}\n"
        f"#define OUTPUT_BYTES {outputs.num_bytes}\n"
        f"void {function}({', '.join(kinds)});\n"
        "static inline void run_network(const int8_t *in, int8_t *out) {\n"
        f"  {function}({', '.join(arguments)});\n"
        "}\n"
    )
