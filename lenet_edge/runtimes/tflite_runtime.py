"""tflite-runtime: the small interpreter that most Raspberry Pi guides use."""

from __future__ import annotations

import importlib.metadata
import re

import numpy as np

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.errors import TargetError
from lenet_edge.extras import pip_command
from lenet_edge.runtimes import Deployable
from lenet_edge.runtimes._tflite import open_interpreter
from lenet_edge.target import Session, Target

TARGETS = (
    # Its XNNPACK takes float nodes and leaves int8 nodes, so the target promises no delegate.
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
DEPLOYABLE = Deployable("tflite", "tflite-runtime-cpu", "tflite-runtime", rank=2)


def refusal(artifact: Artifact, release: str | None) -> str | None:
    """Return why the runtime is too old for a file: its releases have the numbers of TensorFlow."""
    if artifact.oldest_runtime is None:
        return None
    try:
        release = release or importlib.metadata.version("tflite-runtime")
    except importlib.metadata.PackageNotFoundError:
        return None
    if _numbers(release) >= _numbers(artifact.oldest_runtime):
        return None
    return (
        f"{artifact.name} needs TensorFlow Lite {artifact.oldest_runtime}, and tflite-runtime"
        f" {release} is older; run it on LiteRT, or export it again"
    )


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", release)))


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Open a .tflite file with the default kernels of the interpreter."""
    if int(np.__version__.split(".")[0]) >= 2:
        # The package imports under NumPy 2, and then fails with an unclear SystemError.
        command = pip_command("'numpy<2'")
        raise TargetError(
            f"tflite-runtime needs NumPy 1, and NumPy {np.__version__} is installed; {command},"
            " or use ai-edge-litert"
        )
    from tflite_runtime import interpreter

    version = importlib.metadata.version("tflite-runtime")
    return open_interpreter(interpreter, version, artifact, target, num_threads, plain=False)
