"""LiteRT (ai-edge-litert): its interpreter, and its compiled models for GPU and NPU."""

from __future__ import annotations

import importlib.metadata
import importlib.util

from lenet_edge.artifact import Artifact
from lenet_edge.runtimes import _vulkan
from lenet_edge.runtimes._compiled_model import NPU_IS_HERE, CompiledSession
from lenet_edge.runtimes._tflite import open_interpreter
from lenet_edge.target import Session, Target

TARGETS = (
    Target(
        name="litert-xnnpack",
        runtime="litert",
        formats=("tflite",),
        device="cpu",
        delegate="XNNPACK",
        package="ai_edge_litert",
        extra="litert",
        preference=10,
    ),
    Target(
        name="litert-reference",
        runtime="litert",
        formats=("tflite",),
        device="cpu",
        delegate=None,
        package="ai_edge_litert",
        extra="litert",
        preference=90,  # the plain kernels: what to compare with, not what to ship
    ),
    Target(
        name="litert-gpu",
        runtime="litert",
        formats=("tflite",),
        device="gpu",
        delegate="GPU",
        package="ai_edge_litert",
        extra="litert",
        preference=40,
    ),
    Target(
        name="litert-npu",
        runtime="litert",
        formats=("tflite",),
        device="npu",
        delegate="NPU",
        package="ai_edge_litert",
        extra="npu",
        # Without an NPU the same path runs on its CPU back end: to try it, not to ship it.
        preference=41 if NPU_IS_HERE else 94,
    ),
)


def absence(target: Target) -> str | None:
    """Return why there is no such device here, as far as can be told without trying."""
    if target.device == "gpu":
        return _vulkan.absence()
    if target.device == "npu" and importlib.util.find_spec("openvino") is None:
        return "openvino is not installed; pip install 'lenet-edge[npu]'"
    return None


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Open a .tflite file on the CPU, or compiled for an accelerator."""
    if target.device != "cpu":
        return CompiledSession(artifact, target)
    from ai_edge_litert import interpreter

    version = importlib.metadata.version("ai-edge-litert")
    plain = target.delegate is None
    return open_interpreter(interpreter, version, artifact, target, num_threads, plain)
