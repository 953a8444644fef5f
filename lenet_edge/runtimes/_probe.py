"""Probe of a target: run a tiny model on it and compare the result.

A probe model computes ten logits of a 4 x 4 image. Logit j is the sum of the pixels whose index
ends in j. ``python -m lenet_edge.flows.make_probe`` makes the models.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge import worker
from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.errors import TargetError
from lenet_edge.formats import BY_NAME
from lenet_edge.runtimes import open_session
from lenet_edge.target import Target

FOLDER = Path(__file__).parent / "probe"
IMAGE_SHAPE = (4, 4, 1)
NUM_CLASSES = 10


def weights() -> npt.NDArray[np.float32]:
    """Return the matrix of the probe model: zeros and ones, float32 of shape (pixels, classes)."""
    pixels = np.arange(np.prod(IMAGE_SHAPE))
    matrix: npt.NDArray[np.float32] = np.equal(
        pixels[:, None] % NUM_CLASSES, np.arange(NUM_CLASSES)
    ).astype(np.float32)
    return matrix


@worker.function
def probe(target: dict[str, Any]) -> dict[str, Any]:
    """Run the probe model on a target, in a worker.

    Args:
        target: the fields of the `Target`.

    Returns:
        The version of the runtime and the fields of the `Delegation`.

    Raises:
        TargetError: the target cannot run the model, leaves it to the CPU, or computes a wrong
            result.
    """
    probed = Target.from_json(target)
    artifact = load_artifact(FOLDER / f"probe{BY_NAME[probed.formats[0]].suffix}")
    images = np.random.default_rng(0).random((3, *IMAGE_SHAPE), np.float32)
    expected = images.reshape(3, -1) @ weights()
    with closing(open_session(artifact, probed)) as session:
        session.prepare(images)
        session.infer()
        logits = session.logits()
        if probed.runtime != "null" and not np.allclose(logits, expected, atol=1e-2):
            error = np.abs(logits - expected).max()
            raise TargetError(f"{probed.name} runs, but its results are wrong by up to {error:.3g}")
        delegation = session.delegation
        if delegation and not delegation.nodes_taken:
            raise TargetError(f"{probed.name} runs, but {delegation} of a small model")
        return {
            "runtime_version": session.runtime_version,
            "delegation": asdict(delegation) if delegation else None,
        }
