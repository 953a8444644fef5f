"""Check of delegation: how much of a model a delegate, device or provider executes."""

from __future__ import annotations

import dataclasses

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.errors import MissingPackageError, TargetError
from lenet_edge.inspection import layers_of
from lenet_edge.target import Delegation, Session, Target

_MAX_NAMES = 6
_MULTIPLYING = ("Conv", "Gemm", "MatMul", "QLinear", "Fused")  # prefixes of operator names


def checked_delegation(session: Session, artifact: Artifact, target: Target) -> Delegation | None:
    """Return the delegation of a session that has prepared a batch; None without a delegate.

    Raises:
        TargetError: the delegate leaves nodes to another device, and took none or the target
            allows no fallback.
    """
    delegation = session.delegation
    if delegation is None:
        return None
    if delegation.macs_total is None:
        delegation = _with_macs(delegation, artifact)
    if not delegation.falls_back or (delegation.nodes_taken and target.allow_fallback):
        return delegation
    names = list(delegation.left_behind[:_MAX_NAMES])
    if len(delegation.left_behind) > _MAX_NAMES:
        names.append(f"{len(delegation.left_behind) - _MAX_NAMES} more")
    on_cpu = f"; on the CPU stayed {', '.join(names)}" if names else ""
    advice = (
        "; --allow-fallback accepts that"
        if delegation.nodes_taken
        else ", so it would not be used at all; use another file or another delegate"
    )
    raise TargetError(f"of {artifact.name}, {delegation}{on_cpu}{advice}")


def _with_macs(delegation: Delegation, artifact: Artifact) -> Delegation:
    """Count the multiplications of an .onnx file, if the onnx package is installed."""
    try:
        layers = layers_of(artifact.path, artifact.format)
    except MissingPackageError:
        return delegation
    if any(layer.macs is None for layer in layers):
        return delegation
    macs = {layer.name: layer.macs or 0 for layer in layers}
    total = sum(macs.values())
    on_cpu = [name.partition(" ")[::2] for name in delegation.left_behind]
    # The optimizer renames nodes that it makes. If such a node multiplies, the share is unknown.
    is_unknown = any(kind.startswith(_MULTIPLYING) and name not in macs for kind, name in on_cpu)
    taken = None if is_unknown else total - sum(macs.get(name, 0) for _, name in on_cpu)
    return dataclasses.replace(delegation, macs_total=total, macs_taken=taken)
