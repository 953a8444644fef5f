"""A program of an operating system that calls a C file once for each input of a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.bench.instructions.tools import read_version, run_tool
from lenet_edge.runtimes.native import read_file, tensor_bytes

# Each C file names these flags at its top. Debugging information does not change the code.
FLAGS = ("-O3", "-ffp-contract=fast")
_DEBUG = "-g"
_DRIVER = """#include <stdio.h>

void {name}({kinds});

{buffers}
int main(int count, char **arguments) {{
  FILE *file = count > 1 ? fopen(arguments[1], "rb") : NULL;
  if (!file)
    return 1;
  while ({reads})
    {name}({names});
  return ferror(file) ? 1 : 0;
}}
"""


@dataclass(frozen=True)
class HostedProgram:
    """A program that was built from a C file.

    Attributes:
        path: the file.
        source: the C file, as it was compiled.
        function: the function of the network.
        compiler: name and version of the compiler.
        flags: its flags, for the network.
    """

    path: Path
    source: Path
    function: str
    compiler: str
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Total:
    """Instructions of all inferences of a run.

    Attributes:
        instructions: the instructions of the network.
        layers: those of each layer, by its name.
        counter: name and version of the program that counted.
    """

    instructions: int
    layers: dict[str, int]
    counter: str


def build(artifact: Artifact, compiler: Sequence[str], folder: Path) -> HostedProgram:
    """Build a static program for the processor that a compiler compiles for.

    Args:
        artifact: a C file of lenet-edge.
        compiler: the compiler and its first arguments.
        folder: a scratch folder for the files that are built.

    Raises:
        TargetError: it is not a C file of lenet-edge, or the compiler reports an error.
    """
    interface, inputs, outputs = read_file(artifact)
    source = folder / "network.c"
    source.write_bytes(artifact.path.read_bytes())
    sizes = tensor_bytes(interface, inputs, outputs)
    names = [f"tensor{n}" for n in range(len(sizes))]
    reads = [f"fread({name}, sizeof {name}, 1, file) == 1" for name in names[: len(inputs)]]
    driver = _DRIVER.format(
        name=interface.name,
        kinds=", ".join([*["const void *"] * len(inputs), *["void *"] * len(outputs)]),
        buffers="".join(
            f"static _Alignas(64) char {name}[{size}];\n"
            for name, size in zip(names, sizes, strict=True)
        ),
        reads=" && ".join(reads) or "0",
        names=", ".join(names),
    )
    (folder / "driver.c").write_text(driver, encoding="utf-8")
    command = [*compiler, *FLAGS, _DEBUG, "-static", "network.c", "driver.c", "-o", "program"]
    run_tool(command, folder)
    version = read_version(compiler[0], folder)
    return HostedProgram(folder / "program", source, interface.name, version, FLAGS)
