"""Check of a program's size against the memory of a board, before anything is written."""

from __future__ import annotations

import re

from lenet_edge.errors import ModelFileError, TargetError
from lenet_edge.export.firmware.layouts import FirmwareBoard
from lenet_edge.microcontrollers import footprint
from lenet_edge.microcontrollers.cores import CORES
from lenet_edge.microcontrollers.footprint import Footprint
from lenet_edge.microcontrollers.toolchain import find_toolchain

# The protocol, the drivers and the start of a program, without an operating system.
_PROGRAM_BYTES = 6 << 10
# Stack of the program around the network, and of an interrupt.
STACK_MARGIN = 512
_WIDTHS = {"int8_t": 1, "uint8_t": 1, "int16_t": 2}


def measure(content: bytes, board: FirmwareBoard) -> Footprint:
    """Return the memory of a C file on a board's core: built, or estimated without a compiler."""
    core = CORES[board.core]
    try:
        toolchain = find_toolchain()
    except TargetError:
        return footprint.estimate(content, core)
    return footprint.build(content, core, toolchain)


def count_tensor_bytes(content: bytes) -> tuple[int, int]:
    """Return the bytes of all inputs and of all outputs of a call, as a C file declares them."""
    declared = re.search(rb"^void \w+\((.*\[\d+\])\);$", content, re.MULTILINE)
    sums = [0, 0]
    for parameter in declared[1].split(b",") if declared else ():
        array = re.search(rb"(\w+) \*?\w+\[(\d+)\]", parameter)
        if array:
            width = _WIDTHS.get(array[1].decode(), 4)
            sums[b"const" not in parameter] += width * int(array[2])
    return sums[0], sums[1]


def check_fit(
    network: Footprint, name: str, board: FirmwareBoard, tensor_bytes: int, test_bytes: int
) -> None:
    """Check that a network with its self-test fits into the flash and the RAM of a board.

    Args:
        network: the memory of the network.
        name: the name of its file, for messages.
        board: the board.
        tensor_bytes: the bytes of its inputs and outputs, which are variables.
        test_bytes: the bytes of the self-test, which are constants.

    Raises:
        ModelFileError: it does not fit; the message has the figures.
    """
    for kind, needed, available in (
        ("flash", network.flash_bytes + test_bytes + _PROGRAM_BYTES, board.flash_bytes),
        ("RAM", network.ram_bytes + tensor_bytes + STACK_MARGIN, board.ram_bytes),
    ):
        if needed > available:
            raise ModelFileError(
                f"{name} does not fit on {board.name}: with its self-test it needs about"
                f" {needed:,} bytes of {kind}, and the board has {available:,}; choose a smaller"
                " model or another --board"
            )
