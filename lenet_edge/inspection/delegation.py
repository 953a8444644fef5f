"""Proof of use: what a delegate, a device or a provider really took of a file."""

from __future__ import annotations

import dataclasses

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.errors import MissingPackageError, TargetError
from lenet_edge.inspection import layers_of
from lenet_edge.target import Delegation, Session, Target

_MOST_NAMES = 6
_MULTIPLY = ("Conv", "Gemm", "MatMul", "QLinear", "Fused")  # how the names of such operators begin


def prove(session: Session, artifact: Artifact, target: Target) -> Delegation | None:
    """Return what was taken of a file in a session that has prepared a batch.

    Raises:
        TargetError: that is less than everything, and the target allows no fallback; or nothing.
    """
    found = session.delegation
    if found is None:
        return None
    if found.macs_total is None:
        found = _with_macs(found, artifact)
    if found.nodes_taken and (found.is_complete or target.allow_fallback):
        return found
    names = list(found.left_behind[:_MOST_NAMES])
    if len(found.left_behind) > _MOST_NAMES:
        names.append(f"{len(found.left_behind) - _MOST_NAMES} more")
    stayed = f"; on the CPU stayed {', '.join(names)}" if names else ""
    advice = (
        "; --allow-fallback accepts that"
        if found.nodes_taken
        else ", so nothing of it would be tried; use another file or another delegate"
    )
    raise TargetError(f"of {artifact.name}, {found}{stayed}{advice}")


def _with_macs(found: Delegation, artifact: Artifact) -> Delegation:
    """Count the multiplications of an .onnx file, where the onnx package is there to read it."""
    try:
        layers = layers_of(artifact.path, artifact.format)
    except MissingPackageError:
        return found
    macs = {one.name: one.macs for one in layers}
    total = sum(macs.values())
    left = [name.split(" ", 1) for name in found.left_behind]
    # A node that the optimizer made has another name; where it multiplies, nothing can be said.
    unknown = any(kind.startswith(_MULTIPLY) and name not in macs for kind, name in left)
    taken = None if unknown else total - sum(macs.get(name, 0) for _, name in left)
    return dataclasses.replace(found, macs_total=total, macs_taken=taken)
