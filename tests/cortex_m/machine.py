"""Runner of C networks on emulated Cortex-M boards.

`build` compiles and links a bare-metal program. `run` boots it once in QEMU, feeds it all inputs,
and returns the outputs, the instructions of each call, and the stack.

QEMU executes one instruction each 64 ns of virtual time (``-icount shift=6``), so the ticks of
SysTick count instructions. The counts are equal in every run. They are not cycles.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FOLDER = Path(__file__).parent
PROGRAMS = ("arm-none-eabi-gcc", "arm-none-eabi-size", "qemu-system-arm")
# -O3 for the network; the program around it is small at any level.
FLAGS = ("-O3",)
_SHIFT = 6
_KILOBYTE = 1024


@dataclass(frozen=True)
class Core:
    """A Cortex-M core, and the board of QEMU that has it."""

    name: str
    board: str
    flags: tuple[str, ...]
    clock_hz: int
    flash: int
    ram: int
    flash_bytes: int = 2048 * _KILOBYTE
    ram_bytes: int = 2048 * _KILOBYTE


_SOFT = ("-mfloat-abi=soft",)
CORES = {
    core.name: core
    for core in (
        Core("cortex-m0", "microbit", _SOFT, 16_000_000, 0, 0x20000000, 256 * _KILOBYTE,
             16 * _KILOBYTE),
        Core("cortex-m3", "mps2-an385", _SOFT, 25_000_000, 0, 0x20000000),
        Core("cortex-m4", "mps2-an386", _SOFT, 25_000_000, 0, 0x20000000),
        Core("cortex-m7", "mps2-an500", _SOFT, 25_000_000, 0, 0x20000000),
        Core("cortex-m33", "mps2-an505", _SOFT, 20_000_000, 0x10000000, 0x38000000),
        Core("cortex-m55", "mps3-an547", ("-mfloat-abi=hard",), 32_000_000, 0, 0x20000000,
             512 * _KILOBYTE, 512 * _KILOBYTE),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """Bytes of machine code, constants, initialized variables, and zeroed variables."""

    code: int
    constants: int
    initialized: int
    zeroed: int

    @property
    def flash(self) -> int:
        """Bytes of flash; it holds the first values of variables too."""
        return self.code + self.constants + self.initialized


@dataclass(frozen=True)
class Program:
    """A linked program.

    Attributes:
        path: the file.
        core: the core it was compiled for.
        input_bytes, output_bytes: the sizes of an input and of an output.
        network: the sizes of the network's object files.
        linked: the sizes of the program: the network, the library, and the program around them.
    """

    path: Path
    core: Core
    input_bytes: int
    output_bytes: int
    network: Sizes
    linked: Sizes


@dataclass(frozen=True)
class Run:
    """The outputs of a run, the instructions of each call, and the bytes of stack of a call."""

    outputs: npt.NDArray[np.int8]
    instructions: npt.NDArray[np.int64]
    stack_bytes: int


def build(
    sources: Sequence[Path],
    function: str,
    core: Core,
    folder: Path,
    input_bytes: int,
    output_bytes: int,
    flags: Sequence[str] = FLAGS,
) -> Program:
    """Compile a C network for a core, and link it with the program around it.

    Args:
        sources: the C files of the network.
        function: the name of its function, ``void function(const int8_t *input, int8_t *output)``.
        core: the core to compile for.
        folder: a folder for the files that are built.
        input_bytes: the size of an input.
        output_bytes: the size of an output.
        flags: flags of the compiler for the network.

    Raises:
        RuntimeError: the compiler or the linker reports an error.
    """
    common = ("arm-none-eabi-gcc", f"-mcpu={core.name}", "-mthumb", *core.flags, "-std=c11",
              "-ffunction-sections", "-fdata-sections", "-Wall", "-Wextra", "-Werror")  # fmt: skip
    program, start = folder / f"{core.name}.elf", folder / f"{core.name}_start.o"
    networks = [folder / f"{core.name}_{source.stem}.o" for source in sources]
    for source, network in zip(sources, networks, strict=True):
        _execute(*common, *flags, "-c", source, "-o", network)
    defines = (
        f"-DNET={function}",
        f"-DINPUT_BYTES={input_bytes}",
        f"-DOUTPUT_BYTES={output_bytes}",
    )
    _execute(*common, "-O2", *defines, "-c", FOLDER / "start.c", "-o", start)
    memory = {"FLASH": core.flash, "FLASH_SIZE": core.flash_bytes,
              "RAM": core.ram, "RAM_SIZE": core.ram_bytes}  # fmt: skip
    places = [f"-Wl,--defsym={name}={value:#x}" for name, value in memory.items()]
    _execute(*common, "-nostartfiles", "-Wl,--gc-sections", *places, "-T", FOLDER / "link.ld",
             start, *networks, "-o", program)  # fmt: skip
    return Program(
        program, core, input_bytes, output_bytes, read_sizes(*networks), read_sizes(program)
    )


def run(program: Program, inputs: npt.NDArray[Any], folder: Path, timeout_s: float = 120) -> Run:
    """Boot a program in QEMU and call the network on each of the inputs.

    Raises:
        RuntimeError: the program failed: status 4 is a full stack, 5 a fault of the processor.
        subprocess.TimeoutExpired: the program hangs.
    """
    (folder / "in").write_bytes(np.ascontiguousarray(inputs).tobytes())
    _execute(
        "qemu-system-arm", "-M", program.core.board, "-nographic", "-monitor", "none",
        "-serial", "none", "-semihosting-config", "enable=on,target=native",
        "-icount", f"shift={_SHIFT}", "-kernel", program.path.resolve(),
        folder=folder, timeout_s=timeout_s,
    )  # fmt: skip
    numbers = np.fromfile(folder / "ticks", "<u4").astype(np.int64)
    empty, stack, ticks = numbers[0], int(numbers[1]), numbers[2:]
    outputs = np.fromfile(folder / "out", np.int8).reshape(-1, program.output_bytes)
    instruction_hz = 1e9 / (1 << _SHIFT)
    counts = np.rint((ticks - empty) * instruction_hz / program.core.clock_hz)
    if len(outputs) != len(inputs):
        raise RuntimeError(f"{len(outputs)} of {len(inputs)} inputs have outputs")
    return Run(outputs, counts.astype(np.int64), stack)


def read_sizes(*files: Path) -> Sizes:
    """Return the sizes of the sections of object files or of a program."""
    sizes = dict.fromkeys((".text", ".rodata", ".data", ".bss"), 0)
    for line in _execute("arm-none-eabi-size", "-A", *files).splitlines():
        if match := re.match(r"(\.(?:text|rodata|data|bss))\S*\s+(\d+)", line):
            sizes[match[1]] += int(match[2])
    return Sizes(*sizes.values())


def _execute(*command: str | Path, folder: Path | None = None, timeout_s: float = 120) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, capture_output=True, text=True,
        timeout=timeout_s, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed with status {done.returncode}: {done.stderr}")
    return done.stdout


def compiler_version() -> str:
    """Return the first line that the compiler prints about itself."""
    return _execute("arm-none-eabi-gcc", "--version").partition("\n")[0]
