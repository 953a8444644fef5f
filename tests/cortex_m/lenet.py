"""LeNet as int8 C on emulated Cortex-M cores: programs, reference outputs, and the bars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.export.native import compiler
from lenet_edge.microcontrollers.cores import Core
from lenet_edge.microcontrollers.program import BareMetalProgram, build_program
from lenet_edge.microcontrollers.toolchain import FLAGS
from tests.reference_kernels import predict_batch

PROGRAMS = ("arm-none-eabi-gcc", "qemu-system-arm")
# A warning in our C is an error here.
STRICT = (*FLAGS, "-Wall", "-Wextra", "-Werror")

PIXELS, CLASSES = 784, 10
# Instructions of an image by CMSIS-NN with the same weights, from earlier probes in QEMU that this
# repository cannot repeat. Those of Cortex-M4 and M55 were counted. Those of M0 and M3 are derived
# from a ratio of two digits. M7 and M33 have the figure of M4.
CMSIS_NN_INSTRUCTIONS = {
    "cortex-m0": 2_598_000,
    "cortex-m3": 1_315_000,
    "cortex-m4": 1_153_478,
    "cortex-m7": 1_153_478,
    "cortex-m33": 1_153_478,
    "cortex-m55": 401_287,
}
# The largest share of them that our C may take.
BARS = {"cortex-m0": 0.45, "cortex-m3": 0.4, "cortex-m4": 0.25, "cortex-m7": 0.25,
        "cortex-m33": 0.25, "cortex-m55": 0.25}  # fmt: skip


def build(path: Path, core: Core, folder: Path) -> BareMetalProgram:
    """Translate LeNet's int8 .tflite file to C, and build a program for a core."""
    source = folder / "lenet.c"
    source.write_text(compiler.compile_tflite(path.read_bytes(), "lenet", path.name).source)
    return build_program([source], "lenet", core, folder, [PIXELS], [CLASSES], flags=STRICT)


def to_inputs(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int8]:
    """Return images as inputs: a pixel of 0 to 255 becomes an integer 128 below it."""
    return (pixels.reshape(-1, PIXELS).astype(np.int16) - 128).astype(np.int8)


def compute_reference(path: Path, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """Return the outputs of TensorFlow Lite's reference kernels."""
    return predict_batch(path.read_bytes(), to_inputs(pixels).reshape(-1, 28, 28, 1))
