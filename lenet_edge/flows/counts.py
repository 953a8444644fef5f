"""Counts of several C files: instructions on emulated processors, cycles on boards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.bench.cycles import count_cycles
from lenet_edge.bench.instructions.count import CPUS, count_instructions
from lenet_edge.errors import LenetEdgeError, TargetError, UsageError
from lenet_edge.flows.console import Console
from lenet_edge.results.cycle_count import CycleCount
from lenet_edge.results.instruction_count import InstructionCount
from lenet_edge.results.result_file import Skipped

__all__ = ["CPUS", "count_cycles_of_files", "count_files"]


def count_files(
    artifacts: Sequence[Artifact], cpus: Sequence[str], inputs: Path | None, console: Console
) -> tuple[tuple[InstructionCount, ...], tuple[Skipped, ...]]:
    """Count the instructions of each C file on each processor.

    Args:
        artifacts: the files.
        cpus: elements of `CPUS`.
        inputs: an .npz file with the inputs; None takes test images or random values.
        console: the display.

    Returns:
        The counts, and the files that could not be counted with the reason.

    Raises:
        UsageError: a processor is unknown.
    """
    for cpu in cpus:
        if cpu not in CPUS:
            raise UsageError(
                f"instructions cannot be counted on {cpu}; choose of {', '.join(CPUS)}"
            )
    counts: list[InstructionCount] = []
    skipped: list[Skipped] = []
    with console.progress_bar("Count", len(artifacts) * len(cpus)) as step:
        for artifact in artifacts:
            for cpu in dict.fromkeys(cpus):
                try:
                    counts.append(count_instructions(artifact, cpu, inputs, console.note))
                except TargetError as error:
                    skipped.append(Skipped(cpu, str(error), artifact.name))
                step(f"{artifact.name} on {cpu}")
    return tuple(counts), tuple(skipped)


def count_cycles_of_files(
    artifacts: Sequence[Artifact], ports: Sequence[str], console: Console
) -> tuple[tuple[CycleCount, ...], tuple[Skipped, ...]]:
    """Count the cycles of each C file on each board.

    Args:
        artifacts: the files; those that are no C files are left out.
        ports: names of targets, such as serial:/dev/ttyACM0.
        console: the display.

    Returns:
        The counts, and the pairs that could not run with the reason.

    Raises:
        TargetError: none of the files is a C file.
    """
    counts: list[CycleCount] = []
    skipped: list[Skipped] = []
    files = [artifact for artifact in artifacts if artifact.format == "native"]
    pairs = [(artifact, name) for artifact in files for name in dict.fromkeys(ports)]
    if ports and not pairs:
        raise TargetError(f"none of the files runs on {ports[0]}; name a C file of lenet-edge")
    with console.progress_bar("Count", len(pairs)) as step:
        for artifact, name in pairs:
            try:
                counts.append(count_cycles(artifact, name))
            except LenetEdgeError as error:
                skipped.append(Skipped(name, str(error), artifact.name))
            step(f"{artifact.name} on {name}")
    return tuple(counts), tuple(skipped)
