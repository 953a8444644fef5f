"""Count the instructions of an inference of a C file on an emulated processor.

A count is equal in every run, on any machine, for the same compiler. It is no latency.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.bench.instructions import bare_metal, callgrind, emulated, program
from lenet_edge.bench.instructions.tools import find_tool
from lenet_edge.bench.timing import make_batches, origin_of
from lenet_edge.errors import TargetError
from lenet_edge.machine.environment import read_environment
from lenet_edge.microcontrollers.cores import CORES
from lenet_edge.results.instruction_count import InstructionCount
from lenet_edge.runtimes._native_build import find_compiler
from lenet_edge.runtimes.native import read_file
from lenet_edge.support.temporary import temporary_folder
from lenet_edge.target import Array, quantize

NUM_INPUTS = 10  # inferences that are counted; their mean is the count
_TARGET = "native-cpu"


_X86 = "x86-64"
# QEMU's names of 64-bit Arm cores: a Raspberry Pi 4's, and one with dot products, as a Pi 5's has.
_ARM64_CORES = {"arm64": "cortex-a72", "arm64-dotprod": "max"}
CPUS = (_X86, *_ARM64_CORES, *CORES)


def count_instructions(
    artifact: Artifact,
    cpu: str,
    inputs: Path | None = None,
    note: Callable[[str], None] = lambda line: None,
) -> InstructionCount:
    """Build a C file for a processor, execute it in an emulator, and count its instructions.

    Args:
        artifact: a C file of lenet-edge.
        cpu: an element of `CPUS`.
        inputs: an .npz file to read the inputs from; None takes test images or random values.
        note: called with a line of text if the layers cannot be told apart.

    Raises:
        TargetError: it is not a C file, or a program is missing or fails.
        DataError: the inputs do not fit.
    """
    if artifact.format != "native":
        raise TargetError(
            "instructions are counted of C files only; write one with: lenet-edge export --format"
            " native"
        )
    calls = _input_values(artifact, inputs)
    with temporary_folder() as folder:
        if cpu in CORES:
            counted = bare_metal.count(artifact, CORES[cpu], calls, folder, note)
            return replace(counted, inputs=origin_of(artifact, inputs))
        built = program.build(artifact, _find_compiler(cpu), folder)
        content = b"".join(array.tobytes() for call in calls for array in call)
        (folder / "inputs").write_bytes(content)
        if cpu == _X86:
            total = callgrind.count(built, folder / "inputs", folder)
        else:
            total = emulated.count(built, folder / "inputs", folder, _ARM64_CORES[cpu])
    return InstructionCount(
        artifact=artifact.name,
        artifact_sha256=artifact.sha256,
        target=_TARGET,
        cpu=cpu,
        instructions=total.instructions / len(calls),
        images=len(calls),
        compiler=built.compiler,
        flags=built.flags,
        counter=total.counter,
        layers={name: each / len(calls) for name, each in total.layers.items()},
        inputs=origin_of(artifact, inputs),
    )


def _find_compiler(cpu: str) -> Sequence[str]:
    if cpu in _ARM64_CORES:
        return [find_tool("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu")]
    if platform.machine() not in ("x86_64", "AMD64"):
        raise TargetError(
            "instructions of x86-64 can be counted only on an x86-64 machine; choose --count arm64"
        )
    if "avx2" not in read_environment().cpu_features:
        raise TargetError(
            "instructions of x86-64 are counted with AVX2, which this processor lacks; choose"
            " --count arm64"
        )
    return find_compiler()


def _input_values(artifact: Artifact, inputs: Path | None) -> list[list[Array]]:
    """Return the arrays of each call, in the order and the dtypes of the inputs."""
    _, specs, _ = read_file(artifact)
    calls = []
    for values in make_batches(artifact, 1, inputs)[:NUM_INPUTS]:
        arrays = [values] if isinstance(values, np.ndarray) else [values[s.name] for s in specs]
        calls.append(
            [
                array if array.dtype == spec.dtype else quantize(array, spec)
                for array, spec in zip(arrays, specs, strict=True)
            ]
        )
    return calls
