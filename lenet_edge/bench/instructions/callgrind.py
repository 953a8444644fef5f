"""Instructions on x86-64, counted by Valgrind's tool Callgrind.

Valgrind's processor has AVX2 and no AVX-512, and always the same caches. So the count is equal on
all machines with AVX2.
"""

from __future__ import annotations

import re
from pathlib import Path

from lenet_edge.bench.instructions.layers import find_layers, read_layers
from lenet_edge.bench.instructions.program import HostedProgram, Total
from lenet_edge.bench.instructions.tools import find_tool, read_version, run_tool
from lenet_edge.errors import TargetError

_COST = re.compile(r"0x([0-9a-f]+) \S+ (\d+)$")


def count(program: HostedProgram, inputs: Path, folder: Path) -> Total:
    """Run a program in Valgrind, and count the instructions of its network.

    Args:
        program: the program.
        inputs: the file of the inputs.
        folder: a scratch folder.

    Raises:
        TargetError: a program is missing or fails.
    """
    valgrind = find_tool("valgrind", "valgrind")
    addr2line = find_tool("addr2line", "binutils")
    output = folder / "callgrind.out"
    run_tool(
        [valgrind, "--tool=callgrind", f"--toggle-collect={program.function}", "--dump-instr=yes",
         "--compress-pos=no", "--compress-strings=no", f"--callgrind-out-file={output}",
         program.path, inputs], folder,
    )  # fmt: skip
    total, costs, calls = _read_costs(output.read_text(encoding="utf-8", errors="replace"))
    layers = read_layers(program.source.read_bytes(), program.source.name)
    places = find_layers(addr2line, program.path, sorted({*costs, *calls}), layers, folder)
    sums = dict.fromkeys(layers.names, 0)
    for address, place in places.items():
        if place is not None:
            sums[layers.names[place]] += costs.get(address, 0) + calls.get(address, 0)
    return Total(total, sums, read_version(valgrind, folder))


def _read_costs(text: str) -> tuple[int, dict[int, int], dict[int, int]]:
    """Return all instructions, those of each address, and those of the calls from each address.

    Raises:
        TargetError: the format is unknown.
    """
    costs: dict[int, int] = {}
    calls: dict[int, int] = {}
    is_call = False
    for line in text.splitlines():
        if line.startswith("calls="):
            is_call = True  # the next line has the instructions of all calls from this address
        elif match := _COST.match(line):
            address = int(match[1], 16)
            sums = calls if is_call else costs
            sums[address] = sums.get(address, 0) + int(match[2])
            is_call = False
    total = re.search(r"^(?:summary|totals): (\d+)", text, re.MULTILINE)
    if total is None or not costs:
        raise TargetError("the output of Callgrind has an unknown format; install Valgrind 3.19")
    return int(total[1]), costs, calls
