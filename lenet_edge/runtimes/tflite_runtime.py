"""tflite-runtime, the small interpreter that most Raspberry Pi guides name."""

from __future__ import annotations

import importlib.metadata

import numpy as np

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.errors import TargetError
from lenet_edge.runtimes._tflite import open_interpreter
from lenet_edge.target import Session, Target

TARGETS = (
    # It hands float nodes to the XNNPACK inside it and keeps int8 ones, so no delegate is promised.
    Target(
        name="tflite-runtime-cpu",
        runtime="tflite-runtime",
        formats=("tflite",),
        device="cpu",
        delegate=None,
        package="tflite_runtime",
        extra="tflite",
        preference=20,
    ),
)


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Open a .tflite file with the interpreter's own choice of kernels."""
    if int(np.__version__.split(".")[0]) >= 2:
        # It would import, and then fail with a SystemError that explains nothing.
        raise TargetError(
            f"tflite-runtime needs NumPy 1 and NumPy {np.__version__} is installed;"
            " fix it with: pip install 'numpy<2', or use ai-edge-litert"
        )
    from tflite_runtime import interpreter

    version = importlib.metadata.version("tflite-runtime")
    return open_interpreter(interpreter, version, artifact, target, num_threads, plain=False)
