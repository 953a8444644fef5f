"""LiteRT, Google's successor of tflite-runtime (package ai-edge-litert)."""

from __future__ import annotations

import importlib.metadata

from lenet_edge.artifact import Artifact
from lenet_edge.runtimes._tflite import InterpreterSession, load_library
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
)


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Open a .tflite file with the XNNPACK delegate, or with the interpreter's own kernels."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType, load_delegate

    own = target.delegate and not target.library  # beside XNNPACK another delegate gets nothing
    interpreter = Interpreter(
        str(artifact.path),
        num_threads=num_threads,
        experimental_delegates=load_library(target, load_delegate),
        experimental_op_resolver_type=(
            OpResolverType.AUTO if own else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        ),
    )
    return InterpreterSession(interpreter, target, importlib.metadata.version("ai-edge-litert"))
