"""LiteRT (ai-edge-litert): the interpreter on the CPU, and compiled models on a GPU or NPU."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from typing import Any

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.errors import MissingPackageError
from lenet_edge.runtimes import Deployable, _vulkan
from lenet_edge.runtimes._compiled_model import NPU_IS_HERE, CompiledSession
from lenet_edge.runtimes._tflite import open_interpreter
from lenet_edge.target import DEFAULT_DELEGATE, Session, Target


def _target(
    name: str, preference: int, delegate: str | None, device: str = "cpu", extra: str = "litert"
) -> Target:
    return Target(
        name=f"litert-{name}",
        runtime="litert",
        formats=("tflite",),
        device=device,
        delegate=delegate,
        package="ai_edge_litert",
        extra=extra,
        preference=preference,
    )


TARGETS = (
    _target("xnnpack", 10, DEFAULT_DELEGATE),
    _target("reference", 90, None),  # plain kernels, for comparison and not for use
    _target("gpu", 40, "GPU", "gpu"),
    # Without an NPU, the plugin uses its CPU back end. It is slow, so it must be named.
    _target("npu", 41 if NPU_IS_HERE else 94, "NPU", "npu", "npu"),
)
DEPLOYABLE = Deployable("litert", "litert-xnnpack", "ai-edge-litert", rank=1)


def absence(target: Target) -> str | None:
    """Return why the device is absent, or None if that needs a trial."""
    if target.device == "gpu":
        return _vulkan.absence()
    if target.device == "npu" and importlib.util.find_spec("openvino") is None:
        return str(MissingPackageError("openvino", "npu"))
    return None


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Open a .tflite file on the CPU, or compile it for an accelerator."""
    if target.device != "cpu":
        return CompiledSession(artifact, target)
    from ai_edge_litert import interpreter

    version = importlib.metadata.version("ai-edge-litert")
    plain = target.delegate is None
    return open_interpreter(interpreter, version, artifact, target, num_threads, plain)


def open_reference_kernels(content: bytes) -> Any:
    """Return an interpreter with the reference kernels, which define the exact results.

    The target `litert-reference` has optimized kernels without a delegate. They may round
    differently.

    Args:
        content: a .tflite file.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    return Interpreter(
        model_content=content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        num_threads=1,
    )
