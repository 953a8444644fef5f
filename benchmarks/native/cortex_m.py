"""LeNet as int8 C on emulated Cortex-M cores: instructions, flash, stack and RAM.

The instructions are counted by QEMU, and equal in every run. They are not cycles. The outputs of
all test images are compared with TensorFlow Lite's reference kernels.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.data import mnist
from lenet_edge.microcontrollers import emulator
from lenet_edge.microcontrollers.cores import CORES
from lenet_edge.microcontrollers.elf import Sizes
from lenet_edge.microcontrollers.toolchain import FLAGS, find_toolchain
from tests.cortex_m import lenet

COUNTED = 100  # images whose instructions are counted


def measure() -> dict[str, Any]:
    """Return a row for each core."""
    pixels = mnist.load("test").images
    expected = lenet.compute_reference(len(pixels))
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        artifact = lenet.write_c(lenet.FILE.read_bytes(), folder / "lenet.c")
        for core in CORES.values():
            print(f"{core.name}: {len(pixels)} images", file=sys.stderr)
            with closing(lenet.open_on(core.name, artifact)) as session:
                program = session.program
                run = emulator.run(program, lenet.to_inputs(pixels), folder, timeout_s=600)
            mean = float(run.instructions[:COUNTED].mean())
            rows.append({
                "core": core.name,
                "instructions": mean,
                "cmsis_nn_ratio": mean / lenet.CMSIS_NN_INSTRUCTIONS[core.name],
                "bar": lenet.BARS[core.name],
                "network_bytes": asdict(program.network),
                "linked_bytes": asdict(program.linked),
                "stack_bytes": run.stack_bytes,
                "images": len(pixels),
                "different_bytes": int(np.count_nonzero(run.outputs != expected)),
            })  # fmt: skip
    return {"compiler": find_toolchain().version, "flags": FLAGS, "cores": rows}


def show(facts: dict[str, Any]) -> None:
    """Print a table."""
    print(f"LeNet, int8, {facts['compiler']}, {' '.join(facts['flags'])}")
    print(f"{'core':<11} {'instructions':>12} {'/ CMSIS-NN':>10} {'bar':>5} {'flash':>7} "
          f"{'stack':>6} {'RAM':>4} {'different':>9}")  # fmt: skip
    for row in facts["cores"]:
        sizes = Sizes(**row["network_bytes"])
        print(f"{row['core']:<11} {row['instructions']:12,.0f} {row['cmsis_nn_ratio']:10.3f} "
              f"{row['bar']:5} {sizes.flash:7,} {row['stack_bytes']:6,} "
              f"{sizes.ram:4} {row['different_bytes']:9}")  # fmt: skip
