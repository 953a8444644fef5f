"""Instructions on Arm, counted by a plugin of QEMU, which this machine's compiler builds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from lenet_edge.bench.instructions.layers import REST, base_name, find_layers, read_layers
from lenet_edge.bench.instructions.program import HostedProgram, Total
from lenet_edge.bench.instructions.tools import find_tool, read_version, run_tool
from lenet_edge.errors import TargetError

_PLUGIN = Path(__file__).with_name("counter.c")
_OUTSIDE, _REST, _FIRST_LAYER = 0, 1, 2  # numbers in the plugin's files
# The first version of QEMU that needs another version of the plugin interface.
_NEWER_INTERFACE = 9


def count(program: HostedProgram, inputs: Path, folder: Path, core: str) -> Total:
    """Run a program for 64-bit Arm in QEMU, and count the instructions of its network.

    Args:
        program: the program.
        inputs: the file of the inputs.
        folder: a scratch folder.
        core: QEMU's name of the processor.

    Raises:
        TargetError: a program is missing or fails.
    """
    qemu = find_tool("qemu-aarch64", "qemu-user")
    version = read_version(qemu, folder)
    plugin = build_plugin(version, folder)
    names = write_map(
        program.path, program.source, program.function, "aarch64-linux-gnu-", 4, folder, ("main",)
    )
    run_tool([qemu, "-cpu", core, *plugin_options(plugin, folder), program.path, inputs], folder)
    sums = read_totals(folder, names)
    total = sum(sums.values())
    sums.pop(REST, None)
    return Total(total, sums, version)


def build_plugin(qemu_version: str, folder: Path) -> Path:
    """Build the plugin for a version of QEMU, with this machine's compiler.

    Raises:
        TargetError: there is no compiler, or it fails.
    """
    compiler = find_tool("cc", "gcc")
    major = re.search(r"version (\d+)", qemu_version)
    interface = 2 if major and int(major[1]) >= _NEWER_INTERFACE else 1
    plugin = folder / "counter.so"
    run_tool(
        [compiler, "-O2", "-shared", "-fPIC", f"-DINTERFACE={interface}", _PLUGIN, "-o", plugin],
        folder,
    )
    return plugin


def plugin_options(plugin: Path, folder: Path) -> tuple[str, str]:
    """Return the options of QEMU that load the plugin, with its files in a folder."""
    return "-plugin", f"{plugin},map={folder / 'map'},out={folder / 'totals'}"


def write_map(
    program: Path,
    source: Path,
    function: str,
    prefix: str,
    step: int,
    folder: Path,
    outside: Sequence[str],
) -> tuple[str, ...]:
    """Write the file `map` of the plugin: the layer of each instruction in a function `run`.

    Args:
        program: the ELF file, with debugging information.
        source: the C file.
        function: the function of the network.
        prefix: the prefix of the programs of GNU binutils.
        step: the alignment of instructions in bytes.
        folder: a scratch folder.
        outside: the functions that call the network, whose instructions do not count.

    Returns:
        The names of the numbers in the file `totals`.

    Raises:
        TargetError: GNU binutils is missing or fails.
    """
    package = f"binutils-{prefix.removesuffix('-')}"
    layers = read_layers(source.read_bytes(), source.name)
    places = _function_places(find_tool(f"{prefix}nm", package), program, folder)
    numbers: dict[int, int] = {}
    for name, begin, end in places:
        addresses = range(begin, end, step)
        base = base_name(name)
        if base in outside:
            numbers |= dict.fromkeys(addresses, _OUTSIDE)
        elif base in (function, "best_here") or base in layers.functions:
            numbers |= dict.fromkeys(addresses, _REST)
    addr2line = find_tool(f"{prefix}addr2line", package)
    # A compiler may inline `run` into the function of the network.
    wanted = [address for address, number in numbers.items() if number == _REST]
    for address, layer in find_layers(addr2line, program, wanted, layers, folder).items():
        if layer is not None:
            numbers[address] = _FIRST_LAYER + layer
    lines = [f"{at:x} {at + step:x} {numbers[at]}\n" for at in sorted(numbers)]
    (folder / "map").write_text("".join(lines), encoding="ascii")
    return ("", REST, *layers.names)


def _function_places(nm: str, program: Path, folder: Path) -> list[tuple[str, int, int]]:
    """Return the name, the address and the end of each function of a program."""
    places = []
    for line in run_tool([nm, "-S", program], folder).splitlines():
        if match := re.fullmatch(r"([0-9a-f]+) ([0-9a-f]+) [tT] (\S+)", line):
            begin = int(match[1], 16) & ~1  # the lowest bit says Thumb
            places.append((match[3], begin, begin + int(match[2], 16)))
    return places


def read_totals(folder: Path, names: Sequence[str]) -> dict[str, int]:
    """Return the instructions of each layer that the plugin counted.

    Raises:
        TargetError: QEMU has not loaded the plugin.
    """
    path = folder / "totals"
    if not path.is_file():
        raise TargetError("this QEMU has no plugins; install QEMU 7 or later from your system")
    sums: dict[str, int] = {}
    for line in path.read_text(encoding="ascii").splitlines():
        number, instructions = map(int, line.split())
        if number != _OUTSIDE:
            sums[names[number]] = instructions
    return sums


def difference(after: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    """Return the instructions of each layer in a run without those of a shorter run."""
    return {name: total - before.get(name, 0) for name, total in after.items()}
