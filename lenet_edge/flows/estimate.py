"""Estimate several files on several NPUs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lenet_edge.flows.console import Console
from lenet_edge.npu_estimate import ACCELERATORS, NpuEstimate, estimate_npu
from lenet_edge.selection import load_artifacts


def estimate(
    files: Sequence[Path], accelerators: Sequence[str], console: Console
) -> list[NpuEstimate]:
    """Estimate latency and memory of each file on each accelerator.

    Args:
        files: int8 .tflite files.
        accelerators: names of `ACCELERATORS`; none means every Ethos-U55 and U65.
        console: the display.

    Raises:
        LenetEdgeError: a file cannot be used, or the compiler Vela is not installed.
    """
    chosen = accelerators or [name for name in ACCELERATORS if "u85" not in name]
    artifacts = load_artifacts(files, Path())
    estimates = []
    with console.progress_bar("Estimate", len(artifacts) * len(chosen)) as step:
        for artifact in artifacts:
            for accelerator in chosen:
                estimates.append(estimate_npu(artifact, accelerator))
                step(f"{artifact.name} on {accelerator}")
    return estimates
