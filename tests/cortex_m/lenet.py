"""LeNet as int8 C on emulated Cortex-M cores: programs, reference outputs, and the bars."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.data import mnist
from lenet_edge.export import native
from lenet_edge.export.artifact_writer import write_artifact
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.runtimes.cortex_m import CortexMSession
from tests import needs
from tests.reference_kernels import predict_batch

PROGRAMS = needs.CORTEX_M
FILE = Path(__file__).parents[2] / "exported" / "lenet_int8.tflite"

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
# The largest share of these instructions that the C file may take.
BARS = {"cortex-m0": 0.45, "cortex-m3": 0.4, "cortex-m4": 0.25, "cortex-m7": 0.25,
        "cortex-m33": 0.25, "cortex-m55": 0.25}  # fmt: skip


def write_c(content: bytes, path: Path) -> Artifact:
    """Translate an int8 .tflite file to a C file."""
    code = native.write_tflite(content, path.stem, path.name)
    return write_artifact(
        path, code.file("int8"), inputs=code.inputs, outputs=code.outputs, precision="int8",
        batch_size=None, parent_sha256=None, converter="", calibration=None,
    )  # fmt: skip


def open_on(core: str, artifact: Artifact) -> CortexMSession:
    """Open a C file on the target of a core."""
    session = open_session(artifact, get_target(core))
    assert isinstance(session, CortexMSession)
    return session


def to_inputs(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int8]:
    """Return images as inputs: a pixel of 0 to 255 becomes an integer 128 below it."""
    return (pixels.reshape(-1, PIXELS).astype(np.int16) - 128).astype(np.int8)


@functools.cache
def compute_reference(count: int) -> npt.NDArray[Any]:
    """Return the outputs of TensorFlow Lite's reference kernels for the first test images."""
    pixels = mnist.load("test").images[:count]
    return predict_batch(FILE.read_bytes(), to_inputs(pixels).reshape(-1, 28, 28, 1))


def compute_on(session: CortexMSession, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """Return the outputs of a core."""
    session.prepare(to_inputs(pixels).reshape(-1, 28, 28, 1))
    session.infer()
    (outputs,) = session.outputs().values()
    return outputs
