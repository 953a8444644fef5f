"""Runtime that does nothing, to measure the cost of the harness."""

from __future__ import annotations

import numpy as np

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.formats import BY_NAME
from lenet_edge.target import Delegation, Images, Logits, Session, Target

TARGETS = (
    Target(
        name="null",
        runtime="null",
        formats=tuple(BY_NAME),
        device="cpu",
        delegate=None,
        package="",
        extra="",
        preference=1000,
    ),
)


class NullSession:
    """Session with empty steps, whose logits are all zero."""

    runtime_version = "-"
    delegation: Delegation | None = None

    def __init__(self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
        self.inputs, self.outputs = inputs, outputs
        self._batch_size = 0

    def prepare(self, images: Images) -> None:
        """Keep the number of images."""
        self._batch_size = len(images)

    def infer(self) -> None:
        """Do nothing."""

    def logits(self) -> Logits:
        """Return zeros."""
        return np.zeros((self._batch_size, self.outputs[0].shape[-1] or 1), np.float32)

    def close(self) -> None:
        """Do nothing."""


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Return a session that computes nothing."""
    return NullSession(artifact.inputs, artifact.outputs)
