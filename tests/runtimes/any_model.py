"""One run of a model file of any inputs, for processes that import no test module."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from lenet_edge.artifacts.artifact import Artifact, describe_file
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.target import Array


def opened(path: Path) -> Artifact:
    """Describe a model file without its tensors, as `foreign_file.read_tensors` does."""
    return describe_file(
        path, precision="unknown", batch_size=None, inputs=(), outputs=(), parent_sha256=None,
        converter="unknown", calibration=None,
    )  # fmt: skip


def run(path: Path, target: str, *calls: Any) -> dict[str, Array]:
    """Run a model on the values of each call, and return the outputs of the last."""
    with closing(open_session(opened(path), get_target(target))) as session:
        for values in calls:
            session.prepare(values)
            session.infer()
        return session.outputs()
