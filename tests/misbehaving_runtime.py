"""A runtime whose targets do what runtimes have been seen to do; see tests/cli/test_bench.py.

The test puts this file into a copy of the package, as ``runtimes/misbehaving.py``.
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
    """A Session whose inference goes wrong in one way."""

    what = ""

    def infer(self) -> None:
        """Do what the target's name says."""
        if self.what == "segfault":
            ctypes.string_at(0)
        elif self.what == "abort":
            os.write(2, b"check failed: model\n")
            os.abort()
        elif self.what == "babble":
            os.write(1, b'{"result": null}\n')
        elif self.what == "swell":
            held = []
            while True:  # never written to, so that the test takes no memory from others
                held.append(np.empty(2**32, np.uint8))
        elif self.what == "hang":
            time.sleep(600)


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Open nothing, and remember what to do."""
    session = MisbehavingSession(artifact.inputs, artifact.outputs)
    session.what = target.name.removeprefix("misbehaving-")
    return session
