"""Flash, RAM and stack that a C file takes on a core: as built, or estimated without a compiler.

`build` compiles the file and reads its sections and the frames on its stack. `estimate` reads the
text: constants and the arena are exact, and the rest is a rule that errs on the large side.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from lenet_edge.errors import ModelFileError
from lenet_edge.microcontrollers.cores import Core
from lenet_edge.microcontrollers.elf import read_sizes
from lenet_edge.microcontrollers.toolchain import FLAGS, Toolchain
from lenet_edge.support.temporary import temporary_folder

_ELEMENT_BYTES = {"int8_t": 1, "uint8_t": 1, "int16_t": 2, "int32_t": 4, "uint32_t": 4, "float": 4}
# An array of constants, and the guard of those that only some processors have.
_ARRAY = re.compile(
    r"(?:^#ifdef (?P<guard>\w+)\n)?^(?:ALIGNED )?static (?:_Alignas\(\d+\) )?"
    r"const (?P<kind>\w+) \w+\[(?P<count>\d+)(?: \+ SLACK)?\] = \{",
    re.MULTILINE,
)
_STRUCT = re.compile(r"^static const struct \w+ \w+ = \{\n", re.MULTILINE)
_ARENA = re.compile(r"^static _Alignas\(64\) (\w+) memory\[(\d+)\];", re.MULTILINE)
_STATED = re.compile(rb"needs ([0-9,]+) bytes of stack\.")
_CALL = re.compile(r"^\s+(\w+)\(.*\);$", re.MULTILINE)
# The rule of the estimate, which a test compares with builds of many networks.
_STRUCT_BYTES = 128
_CHAIN_BYTES = 10_500  # the float kernels of a chain of layers
_LARGE_BYTES, _SMALL_BYTES, _OTHER_BYTES = 1_500, 300, 600
_SMALL = {"copy", "fill", "flip", "look_up", "memcpy", "quantize", "dequantize"}
_FRAMES_BYTES, _CHAIN_FRAMES_BYTES = 2_816, 2_560  # on top of the arena
_NODE = re.compile(r'^node: \{ title: "([^"]*)" label: "[^"]*?(?:\\n(\d+) bytes \(\w+\))?"', re.M)
_EDGE = re.compile(r'^edge: \{ sourcename: "([^"]*)" targetname: "([^"]*)"', re.MULTILINE)


@dataclass(frozen=True)
class Footprint:
    """Memory that a network in C takes on a core.

    The library functions that it calls are not included: memcpy and memset, and the arithmetic of
    floats on a core without a floating-point unit.

    Attributes:
        core: name of the core.
        code_bytes: machine code.
        constant_bytes: weights and other constants in flash.
        variable_bytes: variables in RAM, such as a static arena.
        stack_bytes: stack of one call.
        compiler: name and version of the compiler; None for an estimate.
    """

    core: str
    code_bytes: int
    constant_bytes: int
    variable_bytes: int
    stack_bytes: int
    compiler: str | None = None

    @property
    def flash_bytes(self) -> int:
        """Machine code and constants."""
        return self.code_bytes + self.constant_bytes

    @property
    def ram_bytes(self) -> int:
        """Variables and stack."""
        return self.variable_bytes + self.stack_bytes

    def to_json(self) -> dict[str, Any]:
        """Return the fields and the sums as a JSON object."""
        return {**vars(self), "flash_bytes": self.flash_bytes, "ram_bytes": self.ram_bytes}


def estimate(content: bytes, core: Core) -> Footprint:
    """Return the memory that a C file takes, without a compiler.

    Args:
        content: a C file of ``export --format native``.
        core: the core.

    Raises:
        ModelFileError: it is no such file.
    """
    _function(content)
    text = content.decode("utf-8", "replace")
    guards = {None, "CORTEX_M"}
    constants = sum(
        int(array["count"]) * _ELEMENT_BYTES.get(array["kind"], 4)
        for array in _ARRAY.finditer(text)
        if array["guard"] in guards
    )
    constants += _STRUCT_BYTES * len(_STRUCT.findall(text))
    arena = _ARENA.search(text)
    variables = int(arena[2]) * _ELEMENT_BYTES.get(arena[1], 4) if arena else 0
    stated = _STATED.search(content[: 2**20])
    stack = int(stated[1].replace(b",", b"")) if stated and not arena else 0
    begin = text.rfind("\nstatic void run(")
    calls = _CALL.findall(text[begin : text.find("\n}\n", begin)]) if begin >= 0 else []
    is_chain = "split_image" in calls or "static network *best_here" not in text
    if is_chain:
        code, frames = _CHAIN_BYTES, _CHAIN_FRAMES_BYTES
    else:
        code, frames = _OTHER_BYTES + sum(map(_call_bytes, calls)), _FRAMES_BYTES
    return Footprint(core.name, code, constants, variables, stack + frames)


def _call_bytes(kernel: str) -> int:
    return _SMALL_BYTES if kernel in _SMALL else _LARGE_BYTES


def build(content: bytes, core: Core, toolchain: Toolchain) -> Footprint:
    """Return the memory that a C file takes as a compiler builds it; nothing is executed.

    Args:
        content: a C file of ``export --format native``.
        core: the core.
        toolchain: the compiler.

    Raises:
        ModelFileError: it is no such file.
        TargetError: the compiler reports an error.
    """
    function = _function(content)
    with temporary_folder() as folder:
        (folder / "network.c").write_bytes(content)
        graph = () if toolchain.is_zig else ("-fcallgraph-info=su",)
        toolchain.run(
            [*toolchain.compile_flags(core), *FLAGS, *graph, "-c", folder / "network.c",
             "-o", folder / "network.o"], folder,
        )  # fmt: skip
        sizes = read_sizes(folder / "network.o")
        if graph:
            stack = stack_bytes((folder / "network.ci").read_text("utf-8", "replace"), function)
        else:
            stack = estimate(content, core).stack_bytes
    return Footprint(
        core.name,
        sizes.code,
        sizes.constants + sizes.initialized,
        sizes.ram,
        stack,
        toolchain.version,
    )


def _function(content: bytes) -> str:
    """Return the name of the function for one call.

    Raises:
        ModelFileError: the file has no such function.
    """
    batch = re.search(rb"^void (\w+)_batch\(", content, re.MULTILINE)
    if not content.startswith(b"/* Neura") or batch is None:
        raise ModelFileError("it is not a C file of lenet-edge; export it again")
    return batch[1].decode()


def stack_bytes(graph: str, function: str) -> int:
    """Return the largest sum of frames on a path of calls from a function.

    Args:
        graph: the calls and frames, as GCC's -fcallgraph-info=su writes them.
        function: the function in which the paths begin.

    Raises:
        ModelFileError: the paths are too long.
    """
    frames = {title: int(size or 0) for title, size in _NODE.findall(graph)}
    callees: dict[str, set[str]] = defaultdict(set)
    for caller, callee in _EDGE.findall(graph):
        callees[caller].add(callee)
    deepest: dict[str, int] = {}

    def depth(title: str) -> int:
        if title not in deepest:
            deepest[title] = 0  # ends a recursion, which these files do not have
            below = max(map(depth, callees[title]), default=0)
            deepest[title] = frames.get(title, 0) + below
        return deepest[title]

    try:
        return depth(function)
    except RecursionError:
        raise ModelFileError("its functions call each other too deeply") from None
