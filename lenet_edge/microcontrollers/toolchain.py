"""Compilers for Cortex-M: arm-none-eabi-gcc, or the one in the Python package ziglang."""

from __future__ import annotations

import functools
import importlib.util
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lenet_edge.errors import TargetError
from lenet_edge.extras import pip_command
from lenet_edge.microcontrollers.cores import Core
from lenet_edge.support.child_program import run_program

FOLDER = Path(__file__).parent
# -O3 for the network; the program around it is small at any level.
FLAGS = ("-O3", "-ffp-contract=fast")
_TIMEOUT_S = 300
# The message of GNU ld and that of LLD.
_OVERFLOW = r"region [`'](flash|ram)'[: ]+overflowed by (\d+) bytes"
# Features that Zig leaves out of a core: its floating-point unit, and instructions for pairs.
_ZIG_FEATURES = {"cortex-m4": "+vfp4d16sp", "cortex-m7": "+fp_armv8d16",
                 "cortex-m33": "+fp_armv8d16sp+dsp", "cortex-m55": "+mve_fp"}  # fmt: skip


class MemoryOverflowError(TargetError):
    """A program is too large for the flash or the RAM of its board.

    Attributes:
        region: "flash" or "ram".
        excess: the bytes that are too many.
    """

    def __init__(self, region: str, excess: int) -> None:
        super().__init__(f"the program has {excess:,} bytes too many for the {region}")
        self.region, self.excess = region, excess


@dataclass(frozen=True)
class Toolchain:
    """A compiler and linker for Cortex-M.

    Attributes:
        command: the program and its first arguments.
        is_zig: whether it is Zig's Clang, which brings no C library.
    """

    command: tuple[str, ...]
    is_zig: bool

    @functools.cached_property
    def version(self) -> str:
        """The line in which the compiler names itself, with its version."""
        program = self.command[0]
        if self.is_zig:
            return f"zig {_first_line([program, 'version'])}"
        return _first_line([program, "--version"])

    def core_flags(self, core: Core) -> tuple[str, ...]:
        """Return the flags that select a core and its floating-point unit."""
        if self.is_zig:
            abi = "eabihf" if core.float_unit else "eabi"
            cpu = core.name.replace("-", "_") + _ZIG_FEATURES.get(core.name, "")
            return (
                "-target", f"thumb-freestanding-{abi}", f"-mcpu={cpu}", "-fno-sanitize=undefined",
                "-DWITHOUT_LIBRARY", "-isystem", str(FOLDER / "freestanding"),
            )  # fmt: skip
        if core.float_unit is None:
            return (f"-mcpu={core.name}", "-mthumb", "-mfloat-abi=soft")
        return (f"-mcpu={core.name}", "-mthumb", "-mfloat-abi=hard", f"-mfpu={core.float_unit}")

    def compile_flags(self, core: Core) -> tuple[str, ...]:
        """Return the flags for all C files of a program: the core's, the standard, the sections."""
        return (*self.core_flags(core), "-std=c11", "-ffunction-sections", "-fdata-sections")

    @property
    def link_flags(self) -> tuple[str, ...]:
        """Flags of the linker for a program that brings its own start."""
        start = "-Wl,--entry=reset" if self.is_zig else "-nostartfiles"
        return (start, "-Wl,--gc-sections")

    def run(self, arguments: Sequence[str | Path], folder: Path) -> None:
        """Run the compiler in a folder.

        Raises:
            TargetError: the compiler or the linker reports an error.
        """
        name = "zig" if self.is_zig else Path(self.command[0]).name
        try:
            done = run_program([*self.command, *map(str, arguments)], folder, _TIMEOUT_S)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TargetError(f"{name} cannot be run: {error}") from error
        if not done.returncode:
            return
        excess = re.search(_OVERFLOW, done.stderr)
        if excess:
            raise MemoryOverflowError(excess[1], int(excess[2]))
        lines = [line for line in done.stderr.splitlines() if "error" in line] or [done.stderr]
        raise TargetError(f"{name} reports: {' '.join(lines[0].split())[:200]}")


def find_toolchain() -> Toolchain:
    """Return the compiler of this machine: arm-none-eabi-gcc, or else that of ziglang.

    Raises:
        TargetError: neither is installed.
    """
    gcc = shutil.which("arm-none-eabi-gcc")
    if gcc:
        return Toolchain((gcc,), is_zig=False)
    package = importlib.util.find_spec("ziglang")
    if package is not None and package.origin is not None:
        return Toolchain((str(Path(package.origin).with_name("zig")), "cc"), is_zig=True)
    raise TargetError(
        "there is no compiler for Cortex-M; apt install gcc-arm-none-eabi libnewlib-arm-none-eabi,"
        f" or {pip_command('ziglang')}"
    )


def _first_line(command: Sequence[str]) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False
    )
    return done.stdout.partition("\n")[0].strip()
