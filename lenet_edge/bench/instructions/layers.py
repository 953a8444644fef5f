"""The layer that an instruction of a compiled C file belongs to.

The functions `run` of a C file call one kernel after another, and comments name the layers. Compilers
inline the kernels. So the compiler's debugging information decides: it has, for each instruction, the
line of `run` that the instruction comes from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lenet_edge.bench.instructions.tools import run_tool

REST = "rest"  # instructions of no layer, such as the choice of the instruction set
_RUN = re.compile(r"static (?:\w+ )*?void (run\w*)\(")
_COMMENT = re.compile(r"  /\* (.*?) \*/$")
_CALL = re.compile(r"\s*([a-z]\w*)\(")
_WEIGHTS = re.compile(r"\b([a-z_]+\d+)_weights\b")
# GCC appends these to the names of functions that it clones or splits.
_CLONE = re.compile(r"\.(?:constprop|part|isra|cold|lto_priv)\b.*")


@dataclass(frozen=True)
class LayerLines:
    """The layers of a C file.

    Attributes:
        names: the names of the layers, in order.
        by_line: the index of a layer by the number of a line.
        functions: the names of the functions `run`, one for each instruction set.
    """

    names: tuple[str, ...]
    by_line: dict[int, int]
    functions: frozenset[str]


def read_layers(source: str) -> LayerLines:
    """Return the layers that a C file calls in its functions `run`."""
    names: list[str] = []
    by_line: dict[int, int] = {}
    functions: set[str] = set()
    is_inside, comment, suffix = False, None, ""
    for number, line in enumerate(source.splitlines(), 1):
        if line == "}":
            is_inside = False
        elif start := _RUN.match(line):
            functions.add(start[1])
            suffix = start[1].removeprefix("run")  # of all functions for an instruction set
            # A single line ends with a semicolon if it is a declaration.
            is_inside, comment = not line.endswith(";"), None
        elif is_inside and (said := _COMMENT.match(line)):
            comment = said[1].partition(",")[0]
        elif is_inside and (call := _CALL.match(line)):
            weights = _WEIGHTS.search(line)
            name = comment or (weights[1] if weights else call[1].removesuffix(suffix))
            if name not in names:
                names.append(name)
            by_line[number] = names.index(name)
    return LayerLines(tuple(names), by_line, frozenset(functions))


def base_name(function: str) -> str:
    """Return the name of a function without what GCC appends to it."""
    return _CLONE.sub("", function)


def find_layers(
    addr2line: str, program: Path, addresses: Sequence[int], layers: LayerLines, folder: Path
) -> dict[int, int | None]:
    """Return the index of the layer of each address in a function `run`.

    An address in `run` that belongs to no layer has None. Addresses elsewhere are absent.

    Args:
        addr2line: the program of GNU binutils, for the processor.
        program: the ELF file, with debugging information.
        addresses: the addresses of instructions.
        layers: the layers of the C file.
        folder: a scratch folder.

    Raises:
        TargetError: addr2line fails.
    """
    (folder / "addresses").write_text("\n".join(map(hex, addresses)), encoding="ascii")
    text = run_tool([addr2line, "-e", program, "-a", "-i", "-f", "@addresses"], folder)
    found: dict[int, int | None] = {}
    for block in re.split(r"^0x(?=[0-9a-f]+$)", text, flags=re.MULTILINE)[1:]:
        address, *frames = block.splitlines()
        for function, place in zip(frames[::2], frames[1::2], strict=False):
            if base_name(function) in layers.functions:
                line = re.search(r":(\d+)", place)
                found[int(address, 16)] = layers.by_line.get(int(line[1])) if line else None
    return found
