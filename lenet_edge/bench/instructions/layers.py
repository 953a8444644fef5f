"""The layer that an instruction of a compiled C file belongs to.

The functions `run` of a C file call one kernel after another. Compilers inline the kernels. So the
compiler's debugging information decides: it has, for each instruction, the line of `run` that the
instruction comes from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lenet_edge.bench.instructions.tools import run_tool
from lenet_edge.runtimes._native_layers import add_hooks

REST = "rest"  # instructions of no layer, such as the choice of the instruction set
_RUN = re.compile(r"static\w* (?:\w+ )*?void (run\w*)\(")
_NO_STATEMENT = re.compile(r"\s*(/\*|#|_Alignas|int \w+\[|\(void\)|$)")
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


def read_layers(source: bytes, name: str) -> LayerLines:
    """Return the layers that a C file calls in its functions `run`.

    Args:
        source: the C file.
        name: its name, for messages.

    Raises:
        TargetError: the file has no layers in the form that `export` writes.
    """
    steps = [step.name for step in add_hooks(source, name).steps]
    names = tuple(dict.fromkeys(steps))
    by_line: dict[int, int] = {}
    functions: set[str] = set()
    statement, is_inside, is_open = 0, False, False
    for number, line in enumerate(source.decode("utf-8", "replace").split("\n"), 1):
        if line == "}":
            is_inside = False
        elif (start := _RUN.match(line)) and not line.endswith(";"):
            functions.add(start[1])
            statement, is_inside, is_open = 0, True, False
        elif is_inside and (is_open or not _NO_STATEMENT.match(line)) and statement < len(steps):
            by_line[number] = names.index(steps[statement])
            is_open = not line.endswith(";")
            statement += not is_open
    return LayerLines(names, by_line, frozenset(functions))


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
    indices: dict[int, int | None] = {}
    for block in re.split(r"^0x(?=[0-9a-f]+$)", text, flags=re.MULTILINE)[1:]:
        address, *frames = block.splitlines()
        for function, place in zip(frames[::2], frames[1::2], strict=False):
            if base_name(function) in layers.functions:
                line = re.search(r":(\d+)", place)
                indices[int(address, 16)] = layers.by_line.get(int(line[1])) if line else None
    return indices
