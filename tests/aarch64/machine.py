"""Build C files for 64-bit Arm, run them in QEMU, and count the instructions of an inference."""

from __future__ import annotations

import math
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.bench.instructions import emulated
from lenet_edge.bench.instructions.tools import read_version

FOLDER = Path(__file__).parent
COMPILER = "aarch64-linux-gnu-gcc"
FLAGS = ("-O3", "-ffp-contract=fast")
# The emulated cores: those of a Raspberry Pi 3 or 4, and one with dot products, as in a Pi 5.
CORES = {"neon": "cortex-a72", "dotprod": "max"}
# Programs that `run` and `count_instructions` need.
RUNS = (COMPILER, "qemu-aarch64-static")
COUNTS = (COMPILER, "cc", "qemu-aarch64")


def build(artifact: Artifact, output: Path, *flags: str | Path, compiler: str = COMPILER) -> Path:
    """Build a C file with `driver.c` into a static program; return its path."""
    source, (image,), (logits,) = artifact.path, artifact.inputs, artifact.outputs
    header = source.with_suffix(".h")
    functions = re.search(r"^void (\w+)\(const (\w+) ", header.read_text(), re.MULTILINE)
    assert functions
    defines = {
        "NET": functions[1],
        "KIND": functions[2],
        "INPUTS": math.prod(size or 1 for size in image.shape[1:]),
        "OUTPUTS": math.prod(size or 1 for size in logits.shape[1:]),
    }
    command = [compiler, *FLAGS, *flags, "-static", "-include", header]
    command += [f"-D{name}={value}" for name, value in defines.items()]
    _call([*command, FOLDER / "driver.c", source, "-o", output])
    return output


def compiler_version() -> str:
    """Return the name and version of the compiler."""
    return _call([COMPILER, "--version"]).decode().splitlines()[0]


def run(program: Path, inputs: npt.NDArray[Any], core: str) -> npt.NDArray[Any]:
    """Return the outputs of a program that `build` returned, one row per input."""
    content = _call(["qemu-aarch64-static", "-cpu", core, program], inputs.tobytes())
    return np.frombuffer(content, inputs.dtype).reshape(len(inputs), -1)


def count_instructions(program: Path, inputs: npt.NDArray[Any], core: str) -> float:
    """Return the mean number of instructions of one inference, without the driver's."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plugin = emulated.build_plugin(read_version("qemu-aarch64", folder), folder)
        # The range has all addresses, so the program is one layer, with the number 1.
        (folder / "map").write_text(f"0 {2**64 - 1:x} 1\n")
        emulator = ("qemu-aarch64", "-cpu", core, *emulated.plugin_options(plugin, folder))
        totals = []
        for runs in ("1", "2"):
            _call([*emulator, program, runs], inputs.tobytes())
            totals.append(emulated.read_totals(folder, ("", "program"))["program"])
    return (totals[1] - totals[0]) / len(inputs)


def _call(command: list[str | Path], content: bytes = b"") -> bytes:
    done = subprocess.run(
        [str(word) for word in command], input=content, capture_output=True, timeout=600
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
