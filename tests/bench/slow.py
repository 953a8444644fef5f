"""A session of a known latency, for tests of the sampling."""

from __future__ import annotations

import time

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.runtimes.null import NullSession
from lenet_edge.target import InputValues


class SlowSession(NullSession):
    """A session whose inference takes at least `infer_s`; it records batches and counts calls.

    Each of the first `cold` calls takes ten times as long.
    """

    def __init__(self, artifact: Artifact, infer_s: float, cold: int = 0) -> None:
        super().__init__(artifact.inputs, artifact.outputs)
        self._infer_s, self._cold = infer_s, cold
        self.prepared: list[InputValues] = []
        self.calls = 0

    def prepare(self, values: InputValues) -> None:
        super().prepare(values)
        self.prepared.append(values)

    def infer(self) -> None:
        self.calls += 1
        time.sleep(self._infer_s * (10 if self.calls <= self._cold else 1))
