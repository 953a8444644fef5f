"""QEMU's boards with a Cortex-M core: they execute programs, and count the instructions.

`run` boots a program once for all inputs. With ``-icount shift=6``, QEMU executes one instruction
each 64 ns of virtual time, so the ticks of SysTick count instructions. The counts are equal in
every run. They are not cycles. `Emulator` keeps a booted program for many calls, without counts.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import struct
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.errors import TargetError
from lenet_edge.microcontrollers.cores import Core
from lenet_edge.microcontrollers.program import BareMetalProgram
from lenet_edge.support.child_program import run_program, started_program
from lenet_edge.support.temporary import temporary_folder

_PROGRAM = "qemu-system-arm"
_TIMEOUT_S = 60.0  # without a result
_SHIFT = 6
_COUNT_INSTRUCTIONS = ("-icount", f"shift={_SHIFT}")
# The exit statuses of runner.c.
_STATUSES = {
    3: "it cannot open its files",
    4: "its stack is full",
    6: "it read a part of an input",
}
_FAULT = 5
_EXCEPTIONS = {2: "NMI", 3: "HardFault", 4: "MemManage", 5: "BusFault", 6: "UsageFault"}
_PIPE_BYTES = 1 << 16
_CACHE_MIB = 32  # of translated code; QEMU's own limit of a gigabyte is too much for a worker


@dataclass(frozen=True)
class EmulatorRun:
    """The outputs of a run, the instructions of each call, and the bytes of stack of a call."""

    outputs: npt.NDArray[np.int8]
    instructions: npt.NDArray[np.int64]
    stack_bytes: int


def find_emulator() -> str:
    """Return the path of QEMU.

    Raises:
        TargetError: QEMU is not installed.
    """
    path = shutil.which(_PROGRAM)
    if path is None:
        raise TargetError(f"{_PROGRAM} is not installed; apt install {_PROGRAM}")
    return path


def emulator_version() -> str:
    """Return the version of QEMU, such as "7.2.22"."""
    done = subprocess.run(
        [find_emulator(), "--version"], capture_output=True, text=True, timeout=60, check=False
    )
    words = done.stdout.partition("\n")[0].split()
    return words[3] if len(words) > 3 else "?"


def _qemu_command(core: Core, file: Path, options: Sequence[str] = ()) -> list[str]:
    """Return the command that boots a program, whose files are those of the working folder."""
    return [
        find_emulator(), "-M", core.board, "-accel", f"tcg,tb-size={_CACHE_MIB}",
        "-display", "none", "-monitor", "none",
        "-serial", "none", "-semihosting-config", "enable=on,target=native",
        *options, "-kernel", str(file.resolve()),
    ]  # fmt: skip


def run(
    program: BareMetalProgram,
    inputs: npt.NDArray[Any],
    folder: Path,
    timeout_s: float = 120,
    options: Sequence[str] = _COUNT_INSTRUCTIONS,
) -> EmulatorRun:
    """Boot a program in QEMU, and call the network on each of the inputs.

    Args:
        program: the program.
        inputs: the blocks of all calls, see `program.CallLayout`.
        folder: a folder for the inputs and the results.
        timeout_s: the time limit.
        options: more options of QEMU, such as a plugin. Without -icount there are no counts.

    Raises:
        TargetError: the program failed, or reached the time limit.
    """
    (folder / "in").write_bytes(np.ascontiguousarray(inputs).tobytes())
    (folder / "fault").unlink(missing_ok=True)
    try:
        done = run_program(_qemu_command(program.core, program.path, options), folder, timeout_s)
    except subprocess.TimeoutExpired:
        raise TargetError(_describe_hang(program.core, timeout_s)) from None
    if done.returncode:
        raise TargetError(_describe_failure(program.core, done.returncode, folder, done.stderr))
    numbers = np.fromfile(folder / "ticks", "<u4").astype(np.int64)
    empty, stack, ticks = numbers[0], int(numbers[1]), numbers[2:]
    outputs = np.fromfile(folder / "out", np.int8).reshape(-1, program.outputs.num_bytes)
    instruction_hz = 1e9 / (1 << _SHIFT)
    counts = np.rint((ticks - empty) * instruction_hz / program.core.clock_hz)
    if len(outputs) != len(inputs):
        raise TargetError(
            f"{program.core.name}: {len(outputs)} of {len(inputs)} inputs have outputs; the program"
            " ended early"
        )
    return EmulatorRun(outputs, counts.astype(np.int64), stack)


def _describe_failure(core: Core, status: int, folder: Path, stderr: str = "") -> str:
    """Return one line about a program that ended with a status other than 0.

    Args:
        core: the core.
        status: the exit status of QEMU, which is that of the program.
        folder: the folder with the file `fault` of the program.
        stderr: the messages of QEMU.
    """
    if status == _FAULT and (folder / "fault").is_file():
        content = (folder / "fault").read_bytes()
        if len(content) == 8:
            number, place = struct.unpack("<II", content)
            name = _EXCEPTIONS.get(number, f"exception {number}")
            return (
                f"{core.name}: the program stopped with a {name} at {place:#010x}; this core cannot"
                " execute the file, or the file is damaged"
            )
    if status == _FAULT or "Lockup" in stderr:
        return f"{core.name}: the processor locked up after a fault; usually the stack is too small"
    reason = _STATUSES.get(status)
    if reason:
        return (
            f"{core.name}: the program stopped, because {reason}; {core.board} has"
            f" {core.ram_bytes:,} bytes of RAM"
        )
    lines = [line for line in stderr.splitlines() if line.strip()] or ["no message"]
    return f"{core.name}: {_PROGRAM} ended with status {status}: {' '.join(lines[0].split())[:200]}"


def _describe_hang(core: Core, timeout_s: float) -> str:
    return (
        f"{core.name}: the program returned no result within {timeout_s:g} s, and was stopped; it"
        " hangs, or is too slow for an emulator"
    )


class Emulator:
    """A booted program, which computes call after call until it is closed.

    It reads its inputs from a FIFO and writes the outputs to another, so that QEMU starts once.
    """

    def __init__(self, program: BareMetalProgram, timeout_s: float = _TIMEOUT_S) -> None:
        self._program, self._timeout_s = program, timeout_s
        self._resources = contextlib.ExitStack()
        try:
            self._folder = self._resources.enter_context(temporary_folder())
            self._inputs, self._outputs = self._open_fifo("in"), self._open_fifo("out")
            errors = self._resources.enter_context((self._folder / "errors").open("wb"))
            command = _qemu_command(program.core, program.path)
            self._process = self._resources.enter_context(
                started_program(command, self._folder, errors)
            )
        except BaseException:
            self._resources.close()
            raise

    def _open_fifo(self, name: str) -> int:
        """Make a FIFO and open both of its ends, so that no side waits for the other."""
        os.mkfifo(self._folder / name)
        descriptor = os.open(self._folder / name, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._resources.callback(os.close, descriptor)
        return descriptor

    def call(self, inputs: bytes, count: int) -> bytes:
        """Call the network on `count` inputs; return the outputs.

        Args:
            inputs: the blocks of all calls, see `program.CallLayout`.
            count: the number of calls.

        Raises:
            TargetError: the program stopped, or returned no output within the time limit.
        """
        remaining = memoryview(inputs)
        results = bytearray()
        expected = count * self._program.outputs.num_bytes
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            selector.register(self._outputs, selectors.EVENT_READ)
            selector.register(self._inputs, selectors.EVENT_WRITE)
            deadline = time.monotonic() + self._timeout_s
            while len(results) < expected:
                ready = [key.fileobj for key, _ in selector.select(deadline - time.monotonic())]
                if self._outputs in ready:
                    results += os.read(self._outputs, _PIPE_BYTES)
                    deadline = time.monotonic() + self._timeout_s
                elif self._process.stdout in ready:
                    if not os.read(self._process.stdout.fileno(), _PIPE_BYTES):
                        raise TargetError(self._describe_end())
                elif not ready and time.monotonic() >= deadline:
                    raise TargetError(_describe_hang(self._program.core, self._timeout_s))
                if self._inputs in ready:
                    remaining = remaining[os.write(self._inputs, remaining[:_PIPE_BYTES]) :]
                    if not remaining:
                        selector.unregister(self._inputs)
        return bytes(results)

    @property
    def stack_bytes(self) -> int:
        """The stack of a call, measured in the first one: known after `call`."""
        return int(np.fromfile(self._folder / "ticks", "<u4", 2)[1])

    def _describe_end(self) -> str:
        status = self._process.wait()
        stderr = (self._folder / "errors").read_text(encoding="utf-8", errors="replace")
        return _describe_failure(self._program.core, status, self._folder, stderr)

    def close(self) -> None:
        """Stop QEMU."""
        self._resources.close()
