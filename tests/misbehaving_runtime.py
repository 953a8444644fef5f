"""A runtime whose targets fail as real runtimes do; see tests/cli/test_bench.py.

The test links this file into a copy of the package, as ``runtimes/misbehaving.py``.
"""

from __future__ import annotations

import ctypes
import os
import time

import numpy as np

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.runtimes.null import NullSession
from lenet_edge.target import Session, Target

TARGETS = tuple(
    Target(f"misbehaving-{what}", "misbehaving", ("tflite",), "cpu", None, "", "", 80)
    for what in ("segfault", "abort", "babble", "swell", "hang")
)


class MisbehavingSession(NullSession):
    """A session whose inference fails in the way that `what` names."""

    what = ""

    def infer(self) -> None:
        """Fail."""
        if self.what == "segfault":
            ctypes.string_at(0)
        elif self.what == "abort":
            os.write(2, b"check failed: model\n")
            os.abort()
        elif self.what == "babble":
            os.write(1, b'{"result": null}\n')
        elif self.what == "swell":
            held = []
            while True:  # never written to, so that other processes keep their memory
                held.append(np.empty(2**32, np.uint8))
        elif self.what == "hang":
            time.sleep(600)


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Return a session that fails as the name of the target says."""
    session = MisbehavingSession(artifact.inputs, artifact.outputs)
    session.what = target.name.removeprefix("misbehaving-")
    return session
