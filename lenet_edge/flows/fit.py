"""Fit of a model file on microcontroller boards: compile its C, and compare flash and RAM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lenet_edge.artifacts.file_check import check_format
from lenet_edge.errors import ModelFileError, TargetError
from lenet_edge.microcontrollers import footprint
from lenet_edge.microcontrollers.boards import find_board
from lenet_edge.microcontrollers.cores import CORES
from lenet_edge.microcontrollers.fit import BoardFit
from lenet_edge.microcontrollers.toolchain import find_toolchain


@dataclass(frozen=True)
class Fits:
    """The fit of a file on each board, and a sentence on the origin of the figures."""

    boards: tuple[BoardFit, ...]
    origin: str


def find_fits(path: Path, boards: Sequence[str]) -> Fits:
    """Return the fit of a file on boards.

    A compiler for Cortex-M builds the C code, which is not executed. Without one, the memory is
    estimated.

    Args:
        path: a .c file of ``export --format native``, or a .tflite file, which is translated.
        boards: names of boards.

    Raises:
        UsageError: there is no such board.
        ModelFileError: the file has no C code, or cannot be translated.
        TargetError: the compiler reports an error.
    """
    chosen = [find_board(name) for name in dict.fromkeys(boards)]
    content = _c_code(path)
    cores = [CORES[name] for name in dict.fromkeys(board.core for board in chosen)]
    try:
        toolchain = find_toolchain()
    except TargetError as error:
        origin = f"Estimated, and rounded up, because {error}"
        footprints = {core.name: footprint.estimate(content, core) for core in cores}
    else:
        origin = f"Built with {toolchain.version}"
        footprints = {core.name: footprint.build(content, core, toolchain) for core in cores}
    return Fits(tuple(BoardFit(board, footprints[board.core]) for board in chosen), origin)


def _c_code(path: Path) -> bytes:
    """Return the content of a C file, or the C code that a .tflite file is translated to.

    Raises:
        ModelFileError: the file is of another format, or an operator is not covered.
    """
    format = check_format(path)
    if format == "native":
        return path.read_bytes()
    if format != "tflite":
        raise ModelFileError(
            f"{path} has no C code to compare with a board; name a .tflite file, or the .c file of:"
            " lenet-edge export --format native"
        )
    from lenet_edge.export.native import text, write_tflite

    code = write_tflite(path.read_bytes(), text.identifier(path.stem), path.name)
    return code.file("int8" if code.has_integers else "float32")
