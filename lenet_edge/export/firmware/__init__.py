"""Export of firmware: a folder that builds for a board, with the network, a self-test and a port.

`layouts` has the boards and their folders, `self_test` the images with their expected outputs, and
`folder` writes a folder whole or not at all. The C files are in the folder ``templates``.
"""

from __future__ import annotations

import re
from pathlib import Path

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.errors import ModelFileError
from lenet_edge.export.firmware import fit, folder, self_test
from lenet_edge.export.firmware.layouts import FirmwareBoard, files_of, find_firmware_board
from lenet_edge.export.native.text import header
from lenet_edge.microcontrollers.footprint import Footprint
from lenet_edge.runtimes.native import read_interface
from lenet_edge.target import Array

__all__ = ["FirmwareBoard", "check", "find_firmware_board", "write"]

# Names that the programs define.
_RESERVED = re.compile(r"firmware_\w+|uart_\w+|systick_\w+|cycles_\w+|main|setup|loop|uart|stack")


def check(content: bytes, name: str, board: FirmwareBoard) -> Footprint:
    """Check that a C file fits on a board, and return the memory that it takes.

    Raises:
        ModelFileError: it does not fit, or its function has the name of another function.
    """
    interface = read_interface(content)
    assert interface is not None
    if _RESERVED.fullmatch(interface.name):
        raise ModelFileError(
            f"the function {interface.name} of {name} has the name of another function of the"
            " firmware; rename the model file, and export it again"
        )
    footprint = fit.measure(content, board)
    inputs, outputs = fit.count_tensor_bytes(content)
    test_bytes = (inputs + outputs) * self_test.count_images(inputs, board.flash_bytes)
    fit.check_fit(footprint, name, board, inputs + outputs, test_bytes)
    return footprint


def write(
    artifact: Artifact,
    tflite: Path,
    images: Array | None,
    board: FirmwareBoard,
    footprint: Footprint,
) -> str:
    """Write the firmware folder of a C file beside it.

    Args:
        artifact: the C file.
        tflite: the .tflite file that the C file was made from.
        images: images for the self-test, see `classifier_io.to_model_input`; None for random
            inputs.
        board: the board.
        footprint: the memory of the C file, as `check` returned it.

    Returns:
        A sentence about the folder.

    Raises:
        ModelFileError: a tensor has a type that firmware does not take.
        LenetEdgeError: the folder contains other files, or cannot be written.
    """
    path = artifact.path.with_name(f"{artifact.path.stem}_{board.name}")
    folder.check_replaceable(path)  # before the work of the self-test
    content = artifact.path.read_bytes()
    interface = read_interface(content)
    assert interface is not None
    test = self_test.make(artifact, tflite, images, board.flash_bytes)
    stem = re.sub(r"\W", "_", artifact.path.stem, flags=re.ASCII)
    stack_bytes = footprint.stack_bytes + fit.STACK_MARGIN
    files = files_of(board, stem, interface.name, artifact.path, stack_bytes)
    files[f"src/{stem}.c"] = content.decode("utf-8")
    files[f"src/{stem}.h"] = header(artifact)
    files["src/firmware_model.c"] = self_test.model_file(artifact, interface, stem, test)
    folder.write(path, files)
    return (
        f"{path}: firmware for {board.title}, with a self-test of {len(test.inputs)} images;"
        " its README.md has the commands"
    )
