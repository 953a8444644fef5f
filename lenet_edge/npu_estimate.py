"""Performance estimates for Arm Ethos-U NPUs, by Arm's compiler Vela.

An estimate runs nothing and is not a measurement. It therefore has its own table and no rank.
"""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import re
import subprocess
from dataclasses import dataclass

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.errors import MissingPackageError, TargetError
from lenet_edge.support.child_program import run_program
from lenet_edge.support.python_command import python_module
from lenet_edge.support.temporary import temporary_folder

ACCELERATORS = (
    *(f"ethos-u55-{macs}" for macs in (32, 64, 128, 256)),
    *(f"ethos-u65-{macs}" for macs in (256, 512)),
    *(f"ethos-u85-{macs}" for macs in (128, 256, 512, 1024, 2048)),
)
_TIMEOUT_S = 120
_MEMORIES = ("sram", "dram", "on_chip_flash", "off_chip_flash")


@dataclass(frozen=True)
class NpuEstimate:
    """Estimate of Vela for one artifact on one accelerator, for one image.

    The last number of `accelerator` is that of its multiply-accumulate units. Clock and memories
    are those of `system_config` and `memory_mode`, Vela's defaults for the accelerator; those of a
    real chip differ. `nodes_taken` of `nodes_total` nodes run on the NPU, the rest on the CPU.
    """

    artifact: str
    artifact_sha256: str
    accelerator: str
    system_config: str
    memory_mode: str
    clock_mhz: float
    latency_s: float
    nodes_total: int
    nodes_taken: int
    macs: int
    sram_bytes: int
    dram_bytes: int
    on_chip_flash_bytes: int
    off_chip_flash_bytes: int
    vela_version: str


def estimate_npu(artifact: Artifact, accelerator: str) -> NpuEstimate:
    """Compile a .tflite file for an Ethos-U NPU, and return the estimate of the compiler.

    Args:
        artifact: an int8 or int16x8 file; the NPU computes only with integers.
        accelerator: an element of `ACCELERATORS`.

    Raises:
        MissingPackageError: ethos-u-vela is not installed.
        TargetError: the file is not a .tflite file, Vela cannot compile it, or no node of it can
            run on the NPU.
    """
    if importlib.util.find_spec("ethosu") is None:
        raise MissingPackageError("ethos-u-vela", "ethos-u")
    if artifact.format != "tflite":
        raise TargetError(f"{artifact.name} is {artifact.format}; Vela compiles only .tflite files")
    if artifact.precision == "int4":
        raise TargetError(f"Vela takes no int4 weights, as in {artifact.name}; give the int8 file")
    with temporary_folder() as folder:
        command = [
            *python_module("ethosu.vela", str(artifact.path.absolute())),
            *("--accelerator-config", accelerator, "--output-dir", str(folder)),
        ]
        try:
            process = run_program(command, folder, _TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise TargetError(
                f"Vela did not compile {artifact.name} within {_TIMEOUT_S} s; try a smaller model"
            ) from None
        summaries = list(folder.glob("*_summary_*.csv"))
        if process.returncode or len(summaries) != 1:
            last = (process.stderr or process.stdout).strip().splitlines()[-1:] or [
                "no error message"
            ]
            raise TargetError(f"Vela cannot compile {artifact.name}: {last[0]}")
        with summaries[0].open(encoding="utf-8", newline="") as file:
            (row,) = csv.DictReader(file)
    cpu, npu = (int(_find(rf"{kind} operators = (\d+)", process.stdout)) for kind in ("CPU", "NPU"))
    if not npu:
        raise TargetError(
            f"{accelerator} runs none of the {cpu} nodes of {artifact.name}, because an Ethos-U"
            " computes only with integers; create an int8 file with: lenet-edge export --int8"
        )
    return NpuEstimate(
        artifact=artifact.name,
        artifact_sha256=artifact.sha256,
        accelerator=accelerator,
        system_config=row["system_config"],
        memory_mode=row["memory_mode"],
        clock_mhz=float(row["core_clock"]) / 1e6,
        latency_s=float(row["inference_time"]),
        nodes_total=cpu + npu,
        nodes_taken=npu,
        macs=int(row["nn_macs"]),
        **{f"{m}_bytes": round(float(row[f"{m}_memory_used"]) * 1024) for m in _MEMORIES},
        vela_version=importlib.metadata.version("ethos-u-vela"),
    )


def _find(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise TargetError("Vela's output has an unknown format; install ethos-u-vela 5.2")
    return match[1]
