"""Runtime that does nothing, to measure the cost of the harness."""

from __future__ import annotations

import numpy as np

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.formats import BY_NAME
from lenet_edge.target import Array, InputValues, Session, Target, TensorSession

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


class NullSession(TensorSession):
    """Session with empty steps, whose outputs are all zero."""

    runtime_version = "-"

    def __init__(self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
        self.input_specs, self.output_specs = inputs, outputs
        self._batch_size = 0

    def prepare(self, values: InputValues) -> None:
        """Keep the first size of the first input."""
        first = values if isinstance(values, np.ndarray) else next(iter(values.values()), None)
        self._batch_size = first.shape[0] if first is not None and first.ndim else 1

    def infer(self) -> None:
        """Do nothing."""

    def outputs(self) -> dict[str, Array]:
        """Return zeros, as many as images for an output whose first size is free."""
        zeros = {}
        for spec in self.output_specs:
            first = [self._batch_size if size is None else size for size in spec.shape[:1]]
            shape = (*first, *(size or 1 for size in spec.shape[1:]))
            zeros[spec.name] = np.full(shape, spec.zero_point or 0, spec.dtype)
        return zeros

    def close(self) -> None:
        """Do nothing."""


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Return a session that computes nothing."""
    return NullSession(artifact.inputs, artifact.outputs)
